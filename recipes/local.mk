# recipes: experiments, problem sets and the bundled models. What is listed in dist_models_DATA
# is in the tarball and is installed in $(pkgdatadir)/models.
modelsdir = $(pkgdatadir)/models
dist_models_DATA =
