/* Charts as SVG: axes, lines, bands, whiskers, markers and a key. Colours can be told apart with
 * every kind of colour blindness, and markers and dashes without any colour. Any thread. */
#ifndef PD_APP_CHART_H
#define PD_APP_CHART_H

#include "base/buf.h"

struct chart {
    struct pd_buf *out;
    double width, height;          /* of the picture */
    double left, top, right, base; /* of the plot, in the picture */
    double x_min, x_max, y_min, y_max;
    bool x_log;
    bool x_whole; /* no ticks between whole numbers */
    double shift; /* of what is drawn at x, to the right: sets series at the same x side by side */
    size_t n_keys;
};

struct chart_xy {
    double x, y;
};

struct chart_style {
    unsigned colour, marker; /* any number; both repeat after a few */
    unsigned dash;           /* 0: solid */
    double opacity;          /* of bands */
};
#define CHART_GREY 1000 /* a colour */

/* The bounds of x and y are to be set before the axes. key: room at the right for so many pixels.
 */
void chart_open(struct chart *c, struct pd_buf *out, double width, double height, double key,
                const char *title);
void chart_axes(struct chart *c, const char *x_label, const char *y_label, bool y_percent);
void chart_line(struct chart *c, const struct chart_xy *at, size_t n, struct chart_style s);
void chart_band(struct chart *c, const struct chart_xy *low, const struct chart_xy *high, size_t n,
                struct chart_style s);
void chart_whisker(struct chart *c, double x, double low, double high, struct chart_style s);
void chart_marker(struct chart *c, double x, double y, struct chart_style s);
void chart_note(struct chart *c, double x, double y, const char *text); /* small, above a point */
/* One line of the key; line and marker as given. */
void chart_key(struct chart *c, const char *label, bool line, bool marker, struct chart_style s);
/* In pixels of the picture, for what has no axis of numbers. */
void chart_text(struct chart *c, double px, double py, const char *anchor, const char *text);
void chart_rule(struct chart *c, double from_px, double from_py, double to_px, double to_py,
                double width, const char *dash, const char *colour);
double chart_px(const struct chart *c, double x);
double chart_py(const struct chart *c, double y);
/* Only the x axis, of a picture that has rows instead of y. */
void chart_x_axis(struct chart *c, const char *x_label);
const char *chart_colour(unsigned colour);
/* 0 to 1 as light to dark, which is ordered in grey too; as "#rrggbb". */
void chart_shade(double v, char out[8]);
void chart_close(struct chart *c);

void chart_escape(struct pd_buf *out, const char *text); /* for XML */
/* Widens [*min,*max] of rates to tenths that have room for all. */
void chart_round_rates(double *min, double *max);

#endif
