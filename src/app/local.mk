# src/app: the wiring between core, engine and storage.
src_app_libapp_a_CPPFLAGS = $(AM_CPPFLAGS) -DPONDER_TOP_SRCDIR='"$(top_srcdir)"'
src_app_libapp_a_SOURCES = \
	src/app/app.c \
	src/app/app.h \
	src/app/app_int.h \
	src/app/calibration.c \
	src/app/chart.c \
	src/app/chart.h \
	src/app/chat.c \
	src/app/dataset.c \
	src/app/dataset.h \
	src/app/engines.c \
	src/app/evaluate.c \
	src/app/evaluate.h \
	src/app/export.c \
	src/app/export.h \
	src/app/generator_local.c \
	src/app/generator_local.h \
	src/app/import.c \
	src/app/job.c \
	src/app/models.c \
	src/app/paths.c \
	src/app/queue.c \
	src/app/queue.h \
	src/app/recipe.c \
	src/app/recipe.h \
	src/app/report.c \
	src/app/report.h \
	src/app/report_bins.c \
	src/app/report_compare.c \
	src/app/report_cost.c \
	src/app/report_data.c \
	src/app/report_html.c \
	src/app/report_int.h \
	src/app/report_png.c \
	src/app/report_svg.c \
	src/app/report_text.c \
	src/app/report_trace.c \
	src/app/result.c \
	src/app/run.c \
	src/app/run.h \
	src/app/scorer.c \
	src/app/settings.c \
	src/app/settings.h \
	src/app/steer.c
