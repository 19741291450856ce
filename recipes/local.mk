# recipes: experiments, problem sets and the bundled models. What is listed in dist_models_DATA
# is in the tarball and is installed in $(pkgdatadir)/models.
modelsdir = $(pkgdatadir)/models
dist_models_DATA = \
	recipes/models/tiny-base-F16.gguf \
	recipes/models/tiny-base-Q8_0.gguf \
	recipes/models/tiny-draft-F16.gguf \
	recipes/models/tiny-draft-Q8_0.gguf \
	recipes/models/tiny-prm-F16.gguf \
	recipes/models/tiny-prm-Q8_0.gguf

problemsdir = $(pkgdatadir)/problems
dist_problems_DATA = \
	recipes/problems/dev.jsonl

recipesdir = $(pkgdatadir)/recipes
dist_recipes_DATA = \
	recipes/a-star.json \
	recipes/compute-optimal.json \
	recipes/hogwild.json \
	recipes/imperfect-verifiers.json \
	recipes/large-language-monkeys.json \
	recipes/particle-filter.json \
	recipes/saturation.json \
	recipes/shortest-lines.json \
	recipes/spec-reason.json

# Reference outputs and training code: in the tarball only.
EXTRA_DIST += \
	recipes/baseline.py \
	recipes/calibrate.py \
	recipes/digests \
	recipes/renew.sh \
	recipes/results/strategies.json \
	recipes/scaling.py \
	recipes/scorer_cost.py \
	recipes/step_labels.py \
	recipes/strategies.py \
	recipes/models/README.md \
	recipes/models/reference/greedy-base-F16.json \
	recipes/models/reference/greedy-base-Q8_0.json \
	recipes/models/reference/greedy-draft-F16.json \
	recipes/models/reference/greedy-draft-Q8_0.json \
	recipes/models/reference/rewards-prm-F16.json \
	recipes/models/reference/rewards-prm-Q8_0.json \
	recipes/models/train/README.md \
	recipes/models/train/bpe.py \
	recipes/models/train/collect.py \
	recipes/models/train/data.py \
	recipes/models/train/evaluate.py \
	recipes/models/train/export_gguf.py \
	recipes/models/train/make_sets.py \
	recipes/models/train/model.py \
	recipes/models/train/problems.py \
	recipes/models/train/run_all.sh \
	recipes/models/train/runtime.py \
	recipes/models/train/sample.py \
	recipes/models/train/tokenizer.json \
	recipes/models/train/traces.py \
	recipes/models/train/train.py \
	recipes/models/train/train_prm.py
