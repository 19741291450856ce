/* Calibrations of scorers: NAME.calibration.json in the folder of the user's own models, NAME being
 * the scorer's model. It holds for one scorer and one file, whose sha256 it names. */
#include <stdlib.h>

#include "app/app_int.h"
#include "app/evaluate.h"
#include "base/file.h"

#define RECORD_MAX_BYTES 65536

static const char *const aggregates[] = {"last", "min", "prod", "mean"};

static char *record_path(const char *scorer)
{
    char *folder = app_data_folder("models", APP_FOLDER_NAMED), *model = app_scorer_model(scorer);
    char *path = NULL, *slash = model ? strrchr(model, '/') : NULL;

    if (!folder || !folder[0]) {
        free(folder);
        folder = app_data_folder("models", APP_FOLDER_USER);
    }
    if (folder && model) {
        char *stem = app_join(folder, "/", slash ? slash + 1 : model);

        path = stem ? app_join(stem, "", ".calibration.json") : NULL;
        free(stem);
    }
    free(folder);
    free(model);
    return path;
}

static void put_number(struct pd_jw *w, const char *key, double v)
{
    pd_jw_put_double(w, key, v);
}

void app_calibration_json(const struct pd_doubt *d, struct pd_jw *w)
{
    pd_jw_put_text(w, "aggregate", aggregates[d->aggregate]);
    for (int k = 0; k < 2; k++) {
        pd_jw_key(w, k ? "p" : "x");
        pd_jw_array(w);
        for (size_t i = 0; i < d->curve.n; i++)
            pd_jw_double(w, k ? d->curve.p[i] : d->curve.x[i]);
        pd_jw_end_array(w);
    }
}

int app_calibration_parse(const struct pd_json *j, struct pd_doubt *out, struct pd_err *err)
{
    const char *aggregate = pd_json_string(pd_json_get(j, "aggregate"));
    const struct pd_json *x = pd_json_get(j, "x"), *p = pd_json_get(j, "p");
    struct pd_doubt d = {.curve.n = pd_json_size(x)};
    bool good = pd_json_is_array(x) && pd_json_is_array(p) && pd_json_size(p) == d.curve.n &&
                d.curve.n <= PD_CALIBRATION_MAX;

    while (d.aggregate < 4 && !(aggregate && strcmp(aggregate, aggregates[d.aggregate]) == 0))
        d.aggregate++;
    for (size_t i = 0; good && i < d.curve.n; i++)
        good = pd_json_number(pd_json_at(x, i), &d.curve.x[i]) &&
               pd_json_number(pd_json_at(p, i), &d.curve.p[i]);
    if (!good || d.aggregate == 4 || !pd_calibration_valid(&d.curve))
        return pd_fail(err, PD_EFORMAT, "not a calibration: its points are not a rising curve");
    *out = d;
    return 0;
}

int evaluate_store(const char *scorer, enum pd_calibration_method method,
                   const struct evaluate_result *r, char **out_path, struct pd_err *err)
{
    const struct pd_doubt d = {.curve = r->calibration, .aggregate = r->aggregate};
    char *path = record_path(scorer), *model = app_scorer_model(scorer), *file = NULL, *slash;
    struct pd_buf b = PD_BUF_INIT(RECORD_MAX_BYTES);
    char sha256[PD_SHA256_HEX];
    struct pd_jw w;
    int rc = path && model ? app_find_model(model, &file, err)
                           : pd_fail(err, PD_ENOMEM, "out of memory");

    if (rc == 0)
        rc = app_hash_model(file, sha256, err);
    if (rc == 0) {
        slash = strrchr(path, '/');
        *slash = '\0';
        rc = pd_mkdirs(path, 0755, err);
        *slash = '/';
    }
    if (rc == 0) {
        pd_jw_init(&w, &b);
        pd_jw_object(&w);
        pd_jw_key(&w, "ponder_calibration");
        pd_jw_int(&w, 1);
        pd_jw_put_text(&w, "scorer", scorer);
        pd_jw_put_text(&w, "sha256", sha256);
        pd_jw_put_text(&w, "method", method == PD_ISOTONIC ? "isotonic" : "platt");
        pd_jw_put_uint(&w, "lines", r->n_lines);
        put_number(&w, "ece", r->calibrated_ece);
        put_number(&w, "threshold", r->threshold);
        put_number(&w, "true_positive_rate", r->tpr);
        put_number(&w, "false_positive_rate", r->fpr);
        app_calibration_json(&d, &w);
        pd_jw_end_object(&w);
        pd_buf_addc(&b, '\n');
        rc = pd_buf_rc(&b) < 0 ? pd_fail(err, PD_ENOMEM, "out of memory")
                               : pd_write_file(path, pd_buf_str(&b), err);
    }
    pd_buf_done(&b);
    free(file);
    free(model);
    if (rc < 0)
        free(path);
    else
        *out_path = path;
    return rc;
}

int app_calibration_load(const char *scorer, const uint8_t sha256[PD_SHA256_BYTES],
                         struct pd_doubt *out, struct pd_err *err)
{
    struct pd_buf text = PD_BUF_INIT(RECORD_MAX_BYTES);
    char *path = record_path(scorer), hex[PD_SHA256_HEX];
    const char *of, *file;
    struct pd_json *j = NULL;
    int64_t version;
    int rc = path ? 0 : pd_fail(err, PD_ENOMEM, "out of memory");

    pd_hex(sha256, PD_SHA256_BYTES, hex);
    if (rc == 0 && !pd_file_exists(path))
        rc = pd_fail(err, PD_ENOENT,
                     "scorer '%s' is not calibrated: ponder score --evaluate FILE --calibrate "
                     "isotonic does that",
                     scorer);
    if (rc == 0)
        rc = pd_read_file(path, &text, err);
    if (rc == 0)
        rc = pd_json_parse(pd_buf_str(&text), &j, err);
    of = pd_json_string(pd_json_get(j, "scorer"));
    file = pd_json_string(pd_json_get(j, "sha256"));
    if (rc == 0 && (!pd_json_int(pd_json_get(j, "ponder_calibration"), &version) || version != 1))
        rc = pd_fail(err, PD_EFORMAT, "not a calibration of this version");
    if (rc == 0 && (!of || strcmp(of, scorer) != 0 || !file || strcmp(file, hex) != 0))
        rc = pd_fail(err, PD_ENOENT, "it is of another scorer or model file: calibrate '%s' again",
                     scorer);
    if (rc == 0)
        rc = app_calibration_parse(j, out, err);
    if (rc < 0 && path && pd_file_exists(path))
        pd_err_context(err, "'%s'", path);
    pd_json_free(j);
    pd_buf_done(&text);
    free(path);
    return rc;
}
