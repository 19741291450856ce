# tests: everything under `make check`, through automake's TAP driver.
#
# A unit test is one line in UNIT_TESTS: its source is <name>.c, it is linked with every archive
# and with cmocka. A property test is the same in PROP_TESTS. A fuzz target is one line in
# FUZZ_TESTS: `make check` replays the files of <name>.in/, --enable-fuzzing links libFuzzer.
# A script is one line in SCRIPT_TESTS and prints TAP itself.

UNIT_TESTS = \
	tests/unit/test_app_chat \
	tests/unit/test_app_queue \
	tests/unit/test_app_recipe \
	tests/unit/test_app_settings \
	tests/unit/test_base_arena \
	tests/unit/test_base_buf \
	tests/unit/test_base_clock \
	tests/unit/test_base_energy \
	tests/unit/test_base_err \
	tests/unit/test_base_file \
	tests/unit/test_base_hash \
	tests/unit/test_base_json \
	tests/unit/test_base_jsonc \
	tests/unit/test_base_queue \
	tests/unit/test_base_rng \
	tests/unit/test_base_str \
	tests/unit/test_core_answer \
	tests/unit/test_core_budget \
	tests/unit/test_core_calibration \
	tests/unit/test_core_cost \
	tests/unit/test_core_given \
	tests/unit/test_core_grade \
	tests/unit/test_core_job \
	tests/unit/test_core_listen \
	tests/unit/test_core_math \
	tests/unit/test_core_param \
	tests/unit/test_core_replay \
	tests/unit/test_core_search \
	tests/unit/test_core_stats \
	tests/unit/test_core_stops \
	tests/unit/test_core_tally \
	tests/unit/test_engine_arch \
	tests/unit/test_daemon_openai \
	tests/unit/test_daemon_tool_calls \
	tests/unit/test_docs_strategy \
	tests/unit/test_engine_constrained \
	tests/unit/test_engine_gguf \
	tests/unit/test_engine_ctx \
	tests/unit/test_engine_grammar \
	tests/unit/test_engine_head \
	tests/unit/test_engine_jinja \
	tests/unit/test_engine_kernels \
	tests/unit/test_engine_memory \
	tests/unit/test_engine_models \
	tests/unit/test_engine_oom \
	tests/unit/test_engine_pool \
	tests/unit/test_engine_prefix \
	tests/unit/test_engine_quants \
	tests/unit/test_engine_reference \
	tests/unit/test_engine_sample \
	tests/unit/test_engine_sched \
	tests/unit/test_engine_spec \
	tests/unit/test_engine_steer \
	tests/unit/test_engine_tokenizer \
	tests/unit/test_engine_view \
	tests/unit/test_net_client \
	tests/unit/test_net_http \
	tests/unit/test_net_sse \
	tests/unit/test_proc_sandbox \
	tests/unit/test_remote \
	tests/unit/test_resample \
	tests/unit/test_split \
	tests/unit/test_storage \
	tests/unit/test_storage_feed \
	tests/unit/test_strategies \
	tests/unit/test_strategies_adaptive \
	tests/unit/test_strategies_asking \
	tests/unit/test_strategies_astar \
	tests/unit/test_strategies_cope \
	tests/unit/test_strategies_deepconf \
	tests/unit/test_strategies_dvts \
	tests/unit/test_strategies_first \
	tests/unit/test_strategies_hogwild \
	tests/unit/test_strategies_limit \
	tests/unit/test_strategies_mcts \
	tests/unit/test_strategies_optimal \
	tests/unit/test_strategies_particles \
	tests/unit/test_strategies_pipeline \
	tests/unit/test_strategies_prune \
	tests/unit/test_strategies_smc \
	tests/unit/test_strategies_steps \
	tests/unit/test_strategies_stopping \
	tests/unit/test_strategies_thinking \
	tests/unit/test_verifier_oracle \
	tests/unit/test_verifier_readouts \
	tests/unit/test_verifier_reward
PROP_TESTS = \
	tests/prop/test_digest
FUZZ_TESTS = \
	tests/fuzz/fuzz_gguf \
	tests/fuzz/fuzz_grammar \
	tests/fuzz/fuzz_head \
	tests/fuzz/fuzz_http \
	tests/fuzz/fuzz_json \
	tests/fuzz/fuzz_math \
	tests/fuzz/fuzz_sse \
	tests/fuzz/fuzz_template \
	tests/fuzz/fuzz_tokenizer
SCRIPT_TESTS = \
	tests/api/config.sh \
	tests/api/disconnect.sh \
	tests/api/jobs.sh \
	tests/api/kill9.sh \
	tests/api/mcp.sh \
	tests/api/openai.sh \
	tests/api/openapi.sh \
	tests/api/remote.sh \
	tests/api/residency.sh \
	tests/api/shared.sh \
	tests/api/top.sh \
	tests/cli/bench.sh \
	tests/cli/completion.sh \
	tests/cli/errors.sh \
	tests/cli/export.sh \
	tests/cli/kill9.sh \
	tests/cli/locks.sh \
	tests/cli/model.sh \
	tests/cli/remote.sh \
	tests/cli/remote_same.sh \
	tests/cli/report.sh \
	tests/cli/run.sh \
	tests/cli/schema.sh \
	tests/cli/score.sh \
	tests/cli/verbs.sh \
	tests/docs/agents.sh \
	tests/docs/recipes.sh \
	tests/docs/strategies.sh \
	tests/include_direction.sh \
	tests/recipes/pinned.sh \
	tests/recipes/problems.sh

# The example of docs/adding-a-strategy.md, as it stands there.
tests/docs/adding-a-strategy.inc: $(srcdir)/docs/adding-a-strategy.md
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(AWK) '/^```$$/ { on = 0 } on { print } /^```c$$/ { on = 1 }' \
	  $(srcdir)/docs/adding-a-strategy.md >$@.tmp && mv $@.tmp $@
tests/unit/test_docs_strategy.$(OBJEXT): tests/docs/adding-a-strategy.inc
CLEANFILES += tests/docs/adding-a-strategy.inc

# What unit tests share: fakes of the interfaces of src/core. Models with random weights are a
# library of their own, which the program that writes them to a file needs without the rest.
TEST_SUPPORT = tests/support/librandom_model.a tests/support/libfake_engine.a
check_LIBRARIES += tests/support/librandom_model.a tests/support/libfake_engine.a
tests_support_librandom_model_a_SOURCES = \
	tests/support/random_model.c tests/support/random_model.h
tests_support_libfake_engine_a_SOURCES = \
	tests/support/fake_engine.c tests/support/fake_engine.h
LDADD = $(TEST_SUPPORT) $(PONDER_ARCHIVES) $(PONDER_LIBS)
TESTS = $(SCRIPT_TESTS)
EXTRA_DIST += $(SCRIPT_TESTS) $(FUZZ_TESTS:=.in)
EXTRA_DIST += tests/gguf_builder.h tests/vocabulary.h tests/unit/engine_fixture.h \
	tests/unit/storage_fixture.h \
	tests/unit/stats_reference.h \
	tests/unit/engine_tolerance.h \
	tests/unit/math_pairs.txt
EXTRA_DIST += tests/support/daemon.sh tests/support/head_file.h tests/support/tap.sh
EXTRA_DIST += tests/api/client.py \
	tests/api/disconnect.py \
	tests/api/openai.py \
	tests/api/openapi.py \
	tests/cli/export.py \
	tests/cli/schema.py \
	tests/clients/README.md \
	tests/clients/load.py \
	tests/clients/mcp.mjs \
	tests/clients/openai.mjs \
	tests/clients/openai.sh \
	tests/cli/report.py \
	tests/recipes/problems.py \
	tests/reference/forward.py \
	tests/reference/bundled.json \
	tests/reference/readouts.json \
	tests/reference/readouts.py \
	tests/reference/stats.py \
	tests/reference/tiny-gemma.json \
	tests/reference/tiny-gemma2.json \
	tests/reference/tiny-gemma3.json \
	tests/reference/tiny-llama-linear.json \
	tests/reference/tiny-llama.json \
	tests/reference/tiny-llama3.json \
	tests/reference/tiny-phi3-long.json \
	tests/reference/tiny-phi3.json \
	tests/reference/tiny-qwen2-cls.json \
	tests/reference/tiny-qwen2-yarn.json \
	tests/reference/tiny-qwen2.json \
	tests/reference/tiny-qwen3.json \
	tests/reference/tiny-qwen3moe.json

if FUZZING
noinst_PROGRAMS += $(FUZZ_TESTS)
LDADD += $(FUZZ_ENGINE)
else
# main() of the fuzz targets; pulled in only by programs that have none of their own.
check_LIBRARIES += tests/fuzz/libreplay.a
tests_fuzz_libreplay_a_SOURCES = tests/fuzz/replay.c
LDADD += tests/fuzz/libreplay.a
check_PROGRAMS += $(FUZZ_TESTS) tests/tools/bridge tests/tools/curve tests/tools/fake_engine tests/tools/make_model \
	tests/tools/many_nodes tests/tools/masks tests/tools/share tests/tools/speculate \
	tests/tools/streams
TESTS += $(FUZZ_TESTS)
if HAVE_CMOCKA
TEST_SUPPORT += tests/support/libsupport.a
check_LIBRARIES += tests/support/libsupport.a
tests_support_libsupport_a_SOURCES = \
	tests/support/fake_generator.c tests/support/fake_generator.h \
	tests/support/memory_sink.c tests/support/memory_sink.h \
	tests/support/toy.c tests/support/toy.h \
	tests/support/trial.c tests/support/trial.h
LDADD += $(CMOCKA_LIBS)
# which draws in a search's place
tests_unit_test_strategies_smc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=search_random
# which fails any of them
tests_unit_test_engine_oom_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc -Wl,--wrap=calloc \
	-Wl,--wrap=realloc -Wl,--wrap=aligned_alloc -Wl,--wrap=posix_memalign
check_PROGRAMS += $(UNIT_TESTS) $(PROP_TESTS)
TESTS += $(UNIT_TESTS) $(PROP_TESTS)
else
check-local:
	@echo "make check needs cmocka: apt-get install libcmocka-dev, then configure again" >&2
	@false
endif
endif

TEST_EXTENSIONS = .sh .bats
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_COMPILER = $(SHELL)
BATS_LOG_DRIVER = $(TAP_DRIVER)
BATS_LOG_COMPILER = bats --tap
AM_TESTS_ENVIRONMENT = \
	CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT; \
	PONDER_TEST_SRCDIR='$(abs_top_srcdir)'; export PONDER_TEST_SRCDIR; \
	PONDER_TEST_BUILDDIR='$(abs_top_builddir)'; export PONDER_TEST_BUILDDIR; \
	PONDER_MODELS_DIR='$(abs_top_srcdir)/recipes/models'; export PONDER_MODELS_DIR; \
	PONDER_CONFIG=/dev/null; export PONDER_CONFIG; \
	ASAN_OPTIONS="detect_leaks=1:$$ASAN_OPTIONS"; export ASAN_OPTIONS; \
	UBSAN_OPTIONS="print_stacktrace=1:$$UBSAN_OPTIONS"; export UBSAN_OPTIONS;

# What the tests of `make check` need, without running them.
check-programs: all $(check_LIBRARIES) $(check_PROGRAMS)

# `passed failed skipped` of the last `make check`, summed over the TAP results of every test.
check-summary:
	@for t in $(TEST_LOGS); do t=$${t%.log}.trs; \
	  if test -f "$$t"; then cat "$$t"; else echo ":test-result: ERROR no result from $$t"; fi; \
	done | $(AWK) '/^:test-result: (PASS|XFAIL)/ { p++ } \
	  /^:test-result: (FAIL|XPASS|ERROR)/ { f++ } /^:test-result: SKIP/ { s++ } \
	  END { print p + 0, f + 0, s + 0 }'

# The unit tests under valgrind, which knows AVX2 but not AVX-512; without the one that repeats
# whole greedy continuations, whose code the other engine tests run too and which takes half an hour.
VALGRIND_FLAGS = --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite --num-callers=30
check-valgrind: all
	@test -n '$(VALGRIND)' || { echo 'check-valgrind needs valgrind' >&2; exit 1; }
	tests=`echo '$(UNIT_TESTS)' | sed 's| tests/unit/test_engine_reference||'`; \
	$(MAKE) $(AM_MAKEFLAGS) check TESTS="$$tests" TESTS_ENVIRONMENT='PONDER_ISA=avx2' \
	  LOG_COMPILER='$(VALGRIND) $(VALGRIND_FLAGS)'

.PHONY: check-programs check-summary check-valgrind
