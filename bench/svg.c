/* Plots without a plotting library: a handful of elements is all that a benchmark needs. Every
 * coordinate is in pixels from the top left; text is escaped here, so callers pass it as it is. */
#include "bench/svg.h"

#include <math.h>
#include <string.h>

void svg_begin(struct svg *svg, FILE *file, double width, double height)
{
    *svg = (struct svg){.file = file, .width = width, .height = height};
    (void)fprintf(file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                  "viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\">\n",
                  width, height, width, height);
    svg_box(svg, 0, 0, width, height, "#ffffff", "none");
}

bool svg_end(struct svg *svg)
{
    (void)fprintf(svg->file, "</svg>\n");
    return fflush(svg->file) == 0 && !ferror(svg->file);
}

static void put_escaped(FILE *file, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            (void)fputs("&amp;", file);
        else if (*text == '<')
            (void)fputs("&lt;", file);
        else if (*text == '>')
            (void)fputs("&gt;", file);
        else if ((unsigned char)*text >= ' ')
            (void)fputc(*text, file);
    }
}

void svg_text(struct svg *svg, double x, double y, double size, enum svg_anchor anchor,
              const char *color, const char *text)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    (void)fprintf(svg->file,
                  "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.0f\" text-anchor=\"%s\" fill=\"%s\">",
                  x, y, size, anchors[anchor], color);
    put_escaped(svg->file, text);
    (void)fputs("</text>\n", svg->file);
}

void svg_line(struct svg *svg, double x1, double y1, double x2, double y2, const char *color,
              double width, const char *dashes)
{
    (void)fprintf(svg->file,
                  "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                  "stroke-width=\"%.1f\"",
                  x1, y1, x2, y2, color, width);
    if (dashes && *dashes) (void)fprintf(svg->file, " stroke-dasharray=\"%s\"", dashes);
    (void)fputs("/>\n", svg->file);
}

void svg_box(struct svg *svg, double x, double y, double width, double height, const char *fill,
             const char *stroke)
{
    (void)fprintf(svg->file,
                  "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\" "
                  "stroke=\"%s\"/>\n",
                  x, y, width, height, fill, stroke);
}

void svg_dot(struct svg *svg, double x, double y, double radius, const char *fill,
             const char *stroke)
{
    (void)fprintf(svg->file,
                  "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\" stroke=\"%s\"/>\n", x, y,
                  radius, fill, stroke);
}

void svg_range_add(double *from, double *to, double value)
{
    if (!(value > 0)) return;
    if (*from <= 0 || value < *from) *from = value;
    if (value > *to) *to = value;
}

static double share(double from, double to, double value)
{
    if (!(from > 0) || to <= from) return 0.5;
    double at = (log(value) - log(from)) / (log(to) - log(from));
    return at < 0 ? 0 : at > 1 ? 1 : at;
}

double svg_panel_x(const struct svg_panel *panel, double value)
{
    return panel->left + panel->width * share(panel->x_from, panel->x_to, value);
}

double svg_panel_y(const struct svg_panel *panel, double value)
{
    return panel->top + panel->height * (1 - share(panel->y_from, panel->y_to, value));
}

void svg_number(double value, char *text, size_t size)
{
    if (value >= 1e6)
        (void)snprintf(text, size, "%gM", value / 1e6);
    else if (value >= 1e3)
        (void)snprintf(text, size, "%gk", value / 1e3);
    else
        (void)snprintf(text, size, "%g", value);
}

void svg_panel_draw(const struct svg_panel *panel, const char *title)
{
    struct svg *svg = panel->svg;
    double right = panel->left + panel->width;
    svg_box(svg, panel->left, panel->top, panel->width, panel->height, "#fafafa", "#888888");
    svg_text(svg, panel->left + panel->width / 2, panel->top - 8, 13, SVG_MIDDLE, "#222222", title);
    if (!(panel->y_from > 0)) return;
    for (double power = floor(log10(panel->y_from)); power <= ceil(log10(panel->y_to)); power++) {
        double value = pow(10, power);
        if (value < panel->y_from * 0.999 || value > panel->y_to * 1.001) continue;
        double y = svg_panel_y(panel, value);
        char text[32];
        svg_number(value, text, sizeof(text));
        svg_line(svg, panel->left, y, right, y, "#dddddd", 1, NULL);
        svg_text(svg, panel->left - 5, y + 4, 11, SVG_END, "#444444", text);
    }
}
