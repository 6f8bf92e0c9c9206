/* A small writer of plots: panels of lines or ranges on logarithmic axes, as SVG. */
#ifndef BENCH_SVG_H
#define BENCH_SVG_H

#include <stdbool.h>
#include <stdio.h>

struct svg {
    FILE *file;
    double width, height;
};

void svg_begin(struct svg *svg, FILE *file, double width, double height);
/* False: not everything could be written. */
bool svg_end(struct svg *svg);

enum svg_anchor { SVG_START, SVG_MIDDLE, SVG_END };
/* The text is escaped. `size` in pixels; color is "#rrggbb". */
void svg_text(struct svg *svg, double x, double y, double size, enum svg_anchor anchor,
              const char *color, const char *text);
void svg_line(struct svg *svg, double x1, double y1, double x2, double y2, const char *color,
              double width, const char *dashes);
void svg_box(struct svg *svg, double x, double y, double width, double height, const char *fill,
             const char *stroke);
void svg_dot(struct svg *svg, double x, double y, double radius, const char *fill,
             const char *stroke);

/* A rectangle with a logarithmic axis upwards, and one to the right or none (x_from 0). */
struct svg_panel {
    struct svg *svg;
    double left, top, width, height;
    double x_from, x_to, y_from, y_to;
};
/* Widens the range so that it includes the value. Start with from = to = 0. */
void svg_range_add(double *from, double *to, double value);
/* Frame, title, and grid lines with labels at the powers of ten of the upward axis. */
void svg_panel_draw(const struct svg_panel *panel, const char *title);
double svg_panel_x(const struct svg_panel *panel, double value);
double svg_panel_y(const struct svg_panel *panel, double value);
/* A number as people write it beside an axis: 250, 1.5k, 3M. */
void svg_number(double value, char *text, size_t size);

#endif
