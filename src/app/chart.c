/* SVG: see chart.h. */
#include "app/chart.h"

#include <math.h>
#include <stdio.h>

#define FONT "font-family=\"Helvetica,Arial,'DejaVu Sans',sans-serif\""

/* Okabe and Ito's colours, dark ones first: text and thin lines need the contrast. */
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#aa4499",
                                      "#e69f00", "#56b4e9", "#000000"};
static const char *const dashes[] = {"", "7 3", "2 3", "9 3 2 3", "4 2"};
#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

const char *chart_colour(unsigned colour)
{
    return colour == CHART_GREY ? "#666666" : colours[colour % N_OF(colours)];
}

static const char *colour(struct chart_style s)
{
    return chart_colour(s.colour);
}

void chart_shade(double v, char out[8])
{
    static const double light[] = {253, 231, 160}, dark[] = {32, 40, 120};

    v = v < 0 ? 0 : v > 1 ? 1 : v;
    snprintf(out, 8, "#%02x%02x%02x", (unsigned)lround(light[0] + v * (dark[0] - light[0])) & 255,
             (unsigned)lround(light[1] + v * (dark[1] - light[1])) & 255,
             (unsigned)lround(light[2] + v * (dark[2] - light[2])) & 255);
}

void chart_escape(struct pd_buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '<')
            pd_buf_addz(out, "&lt;");
        else if (*p == '>')
            pd_buf_addz(out, "&gt;");
        else if (*p == '&')
            pd_buf_addz(out, "&amp;");
        else if (*p == '"')
            pd_buf_addz(out, "&quot;");
        else
            pd_buf_addc(out, *p);
    }
}

void chart_round_rates(double *min, double *max)
{
    *min = floor(*min * 10 + 1e-9) / 10;
    *max = ceil(*max * 10 - 1e-9) / 10;
    if (*max - *min < 0.2) {
        *min = *min >= 0.1 ? *min - 0.1 : *min;
        *max = *max <= 0.9 ? *max + 0.1 : *max;
    }
}

double chart_px(const struct chart *c, double x)
{
    double t = c->x_log ? (log(x) - log(c->x_min)) / (log(c->x_max) - log(c->x_min))
                        : (x - c->x_min) / (c->x_max - c->x_min);

    return c->left + t * (c->right - c->left) + c->shift;
}

double chart_py(const struct chart *c, double y)
{
    return c->base - (y - c->y_min) / (c->y_max - c->y_min) * (c->base - c->top);
}

static void text_at(struct chart *c, double x, double y, const char *anchor, const char *more,
                    const char *text)
{
    pd_buf_printf(c->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>", x, y, anchor, more);
    chart_escape(c->out, text);
    pd_buf_addz(c->out, "</text>\n");
}

void chart_open(struct chart *c, struct pd_buf *out, double width, double height, double key,
                const char *title)
{
    *c = (struct chart){.out = out,
                        .width = width,
                        .height = height,
                        .left = 62,
                        .top = 40,
                        .right = width - key - 16,
                        .base = height - 54};
    pd_buf_printf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
                  "width=\"%.0f\" height=\"%.0f\" role=\"img\" " FONT " font-size=\"12\">\n<title>",
                  width, height, width, height);
    chart_escape(out, title);
    pd_buf_printf(out, "</title>\n<rect width=\"%.0f\" height=\"%.0f\" fill=\"#ffffff\"/>\n", width,
                  height);
    text_at(c, c->left, 22, "start", " font-size=\"14\" font-weight=\"bold\"", title);
}

static void x_tick(struct chart *c, double v, bool labelled)
{
    char text[32];
    double x = chart_px(c, v);

    if (labelled)
        pd_buf_printf(
            c->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>\n",
            x, c->top, x, c->base);
    pd_buf_printf(c->out,
                  "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#333333\"/>\n", x,
                  c->base, x, c->base + (labelled ? 5 : 3));
    if (!labelled)
        return;
    if (v >= 1e12)
        snprintf(text, sizeof text, "%gT", v / 1e12);
    else if (v >= 1e9)
        snprintf(text, sizeof text, "%gG", v / 1e9);
    else if (v >= 1e6)
        snprintf(text, sizeof text, "%gM", v / 1e6);
    else if (v >= 1e4)
        snprintf(text, sizeof text, "%gk", v / 1e3);
    else
        snprintf(text, sizeof text, "%g", v);
    text_at(c, x, c->base + 19, "middle", "", text);
}

/* Which of 1 to 9 times a power of ten have labels: the fewer the decades, the more. */
static void log_ticks(struct chart *c)
{
    double ratio = c->x_max / c->x_min;
    unsigned labelled = ratio > 1e3 ? 1u << 1
                        : ratio > 8
                            ? 1u << 1 | 1u << 2 | 1u << 5
                            : 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8;

    for (double d = pow(10, floor(log10(c->x_min))); d <= c->x_max * 1.0001; d *= 10)
        for (int m = 1; m < 10; m++)
            if (d * m >= c->x_min * 0.9999 && d * m <= c->x_max * 1.0001)
                x_tick(c, d * m, labelled >> m & 1);
}

/* A step of 1, 2 or 5 times a power of ten, for about six of them. */
static void even_ticks(struct chart *c)
{
    double raw = (c->x_max - c->x_min) / 6, p = pow(10, floor(log10(raw)));
    double step = raw / p < 1.5 ? p : raw / p < 3.5 ? 2 * p : raw / p < 7.5 ? 5 * p : 10 * p;

    if (c->x_whole && step < 1)
        step = 1;
    for (double v = ceil(c->x_min / step) * step; v <= c->x_max * 1.0001; v += step)
        x_tick(c, v, true);
}

void chart_x_axis(struct chart *c, const char *x_label)
{
    if (c->x_log)
        log_ticks(c);
    else
        even_ticks(c);
    chart_rule(c, c->left, c->base, c->right, c->base, 1, "", "#333333");
    text_at(c, (c->left + c->right) / 2, c->height - 14, "middle", "", x_label);
}

void chart_text(struct chart *c, double px, double py, const char *anchor, const char *text)
{
    text_at(c, px, py, anchor, "", text);
}

void chart_rule(struct chart *c, double from_px, double from_py, double to_px, double to_py,
                double width, const char *dash, const char *colour_of)
{
    pd_buf_printf(c->out,
                  "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                  "stroke-width=\"%.1f\"%s%s%s/>\n",
                  from_px, from_py, to_px, to_py, colour_of, width,
                  dash[0] ? " stroke-dasharray=\"" : "", dash, dash[0] ? "\"" : "");
}

void chart_axes(struct chart *c, const char *x_label, const char *y_label, bool y_percent)
{
    double range = c->y_max - c->y_min, step = range > 0.55 ? 0.2 : range > 0.25 ? 0.1 : 0.05;
    char more[96], text[32];

    for (int i = (int)ceil(c->y_min / step - 1e-9); i * step <= c->y_max + 1e-9; i++) {
        double y = chart_py(c, i * step);

        pd_buf_printf(
            c->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>\n",
            c->left, y, c->right, y);
        if (y_percent)
            snprintf(text, sizeof text, "%.0f %%", 100 * i * step);
        else
            snprintf(text, sizeof text, "%.2g", i * step);
        text_at(c, c->left - 7, y + 4, "end", "", text);
    }
    chart_x_axis(c, x_label);
    chart_rule(c, c->left, c->top, c->left, c->base, 1, "", "#333333");
    snprintf(more, sizeof more, " transform=\"rotate(-90 16 %.1f)\"", (c->top + c->base) / 2);
    text_at(c, 16, (c->top + c->base) / 2, "middle", more, y_label);
}

void chart_line(struct chart *c, const struct chart_xy *at, size_t n, struct chart_style s)
{
    const char *dash = dashes[s.dash % N_OF(dashes)];

    if (n < 2)
        return;
    pd_buf_addz(c->out, "<polyline points=\"");
    for (size_t i = 0; i < n; i++)
        pd_buf_printf(c->out, "%s%.1f,%.1f", i ? " " : "", chart_px(c, at[i].x),
                      chart_py(c, at[i].y));
    pd_buf_printf(c->out, "\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\"%s%s%s/>\n",
                  colour(s), dash[0] ? " stroke-dasharray=\"" : "", dash, dash[0] ? "\"" : "");
}

void chart_band(struct chart *c, const struct chart_xy *low, const struct chart_xy *high, size_t n,
                struct chart_style s)
{
    if (n < 2)
        return;
    pd_buf_addz(c->out, "<polygon points=\"");
    for (size_t i = 0; i < n; i++)
        pd_buf_printf(c->out, "%.1f,%.1f ", chart_px(c, low[i].x), chart_py(c, low[i].y));
    for (size_t i = n; i-- > 0;)
        pd_buf_printf(c->out, "%.1f,%.1f ", chart_px(c, high[i].x), chart_py(c, high[i].y));
    pd_buf_printf(c->out, "\" fill=\"%s\" fill-opacity=\"%.2f\"/>\n", colour(s), s.opacity);
}

void chart_whisker(struct chart *c, double x, double low, double high, struct chart_style s)
{
    double at = chart_px(c, x), from = chart_py(c, low), to = chart_py(c, high);

    pd_buf_printf(c->out,
                  "<path d=\"M%.1f %.1fV%.1fM%.1f %.1fh6M%.1f %.1fh6\" fill=\"none\" stroke=\"%s\" "
                  "stroke-width=\"1\" stroke-opacity=\"0.7\"/>\n",
                  at, from, to, at - 3, from, at - 3, to, colour(s));
}

static void marker(struct chart *c, double x, double y, struct chart_style s)
{
    static const char *const shapes[] = {
        "",                                     /* a circle */
        "M-4 -4H4V4H-4Z",                       /* a square */
        "M0 -5.2L5 4H-5Z",                      /* a triangle */
        "M0 -5.6L5.6 0L0 5.6L-5.6 0Z",          /* a diamond */
        "M0 5.2L5 -4H-5Z",                      /* a triangle upside down */
        "M-4.5 -4.5L4.5 4.5M-4.5 4.5L4.5 -4.5", /* a cross */
        "M-5.5 0H5.5M0 -5.5V5.5",               /* a plus */
    };
    unsigned i = s.marker % N_OF(shapes);

    if (i == 0)
        pd_buf_printf(c->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4.3\" fill=\"%s\"/>\n", x, y,
                      colour(s));
    else
        pd_buf_printf(c->out,
                      "<path transform=\"translate(%.1f %.1f)\" d=\"%s\" fill=\"%s\" stroke=\"%s\" "
                      "stroke-width=\"%s\"/>\n",
                      x, y, shapes[i], i < 5 ? colour(s) : "none", colour(s), i < 5 ? "0.5" : "2");
}

void chart_marker(struct chart *c, double x, double y, struct chart_style s)
{
    marker(c, chart_px(c, x), chart_py(c, y), s);
}

void chart_note(struct chart *c, double x, double y, const char *text)
{
    text_at(c, chart_px(c, x), chart_py(c, y) - 6, "middle",
            " font-size=\"10\" fill=\"#555555\" stroke=\"#ffffff\" stroke-width=\"3\" "
            "paint-order=\"stroke\"",
            text);
}

void chart_key(struct chart *c, const char *label, bool line, bool mark, struct chart_style s)
{
    double x = c->right + 16, y = c->top + 8 + 20 * (double)c->n_keys++;
    const char *dash = dashes[s.dash % N_OF(dashes)];

    if (line)
        pd_buf_printf(c->out,
                      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                      "stroke-width=\"1.8\"%s%s%s/>\n",
                      x, y, x + 30, y, colour(s), dash[0] ? " stroke-dasharray=\"" : "", dash,
                      dash[0] ? "\"" : "");
    if (s.opacity > 0)
        pd_buf_printf(c->out,
                      "<rect x=\"%.1f\" y=\"%.1f\" width=\"30\" height=\"12\" fill=\"%s\" "
                      "fill-opacity=\"%.2f\"/>\n",
                      x, y - 6, colour(s), s.opacity);
    if (mark)
        marker(c, x + 15, y, s);
    text_at(c, x + 38, y + 4, "start", "", label);
}

void chart_close(struct chart *c)
{
    pd_buf_addz(c->out, "</svg>\n");
}
