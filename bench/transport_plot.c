/* The plot of `bench transport`: for each message size, above, the round trip at depth 1 (a bar
 * from p50 to p99, a mark at p99.9), and below, signals per second one way over the depth. A color
 * is a back end; spinning is drawn full, sleeping hollow, adaptive grey-bordered. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/svg.h"
#include "bench/transport.h"

enum { PANEL_WIDTH = 250, PANEL_HEIGHT = 230, LEFT = 70, TOP = 90, GAP_X = 70, GAP_Y = 70 };

static const char *const colors[TRANSPORT_PEERS_MAX] = {"#1b6ca8", "#d1495b", "#edae49", "#2e7d32",
                                                        "#6a4c93", "#00798c", "#8d6a9f", "#555555"};
static const char *const dashes[TRANSPORT_SPINS] = {"", "2,3", "7,3"};

static struct svg_panel panel_at(struct svg *svg, unsigned column, unsigned row)
{
    return (struct svg_panel){
        .svg = svg,
        .left = LEFT + (double)column * (PANEL_WIDTH + GAP_X),
        .top = TOP + (double)row * (PANEL_HEIGHT + GAP_Y),
        .width = PANEL_WIDTH,
        .height = PANEL_HEIGHT,
    };
}

/* The panels of a row share their axes, so that they can be compared. */
struct axes {
    double y_from, y_to;
};

static struct axes latency_axes(const struct transport_series *series, unsigned count)
{
    struct axes axes = {0};
    for (unsigned i = 0; i < count; i++)
        for (unsigned spin = 0; spin < TRANSPORT_SPINS; spin++)
            for (unsigned size = 0; size < TRANSPORT_SIZES; size++) {
                const struct transport_cell *cell = &series[i].cells[spin][size][0];
                svg_range_add(&axes.y_from, &axes.y_to, cell->p50 / 1.5);
                svg_range_add(&axes.y_from, &axes.y_to, cell->p999 * 1.5);
            }
    return axes;
}

static struct axes rate_axes(const struct transport_series *series, unsigned count)
{
    struct axes axes = {0};
    for (unsigned i = 0; i < count; i++)
        for (unsigned spin = 0; spin < TRANSPORT_SPINS; spin++)
            for (unsigned size = 0; size < TRANSPORT_SIZES; size++)
                for (unsigned depth = 0; depth < TRANSPORT_DEPTHS; depth++) {
                    double rate = series[i].cells[spin][size][depth].signals;
                    svg_range_add(&axes.y_from, &axes.y_to, rate / 1.5);
                    svg_range_add(&axes.y_from, &axes.y_to, rate * 1.5);
                }
    return axes;
}

static const char *dot_fill(unsigned spin, const char *color)
{
    return spin == 0 ? color : spin == 1 ? "#ffffff" : "#bbbbbb";
}

static void latency_panel(struct svg *svg, unsigned size, const struct axes *axes,
                          const struct transport_series *series, unsigned count)
{
    struct svg_panel panel = panel_at(svg, size, 0);
    panel.y_from = axes->y_from;
    panel.y_to = axes->y_to;
    char size_text[16];
    char title[64];
    (void)snprintf(title, sizeof(title), "%s: round trip at depth 1, \302\265s",
                   transport_size_text(transport_sizes[size], size_text));
    svg_panel_draw(&panel, title);
    double step = panel.width / (count * (TRANSPORT_SPINS + 1.0) + 1);
    double x = panel.left + step;
    for (unsigned i = 0; i < count; i++, x += step) {
        double middle = x + step * (TRANSPORT_SPINS - 1) / 2.0;
        svg_text(svg, middle, panel.top + panel.height + 16, 12, SVG_MIDDLE, colors[i],
                 series[i].name);
        for (unsigned spin = 0; spin < TRANSPORT_SPINS; spin++, x += step) {
            const struct transport_cell *cell = &series[i].cells[spin][size][0];
            double y50 = svg_panel_y(&panel, cell->p50);
            double y99 = svg_panel_y(&panel, cell->p99);
            double y999 = svg_panel_y(&panel, cell->p999);
            svg_line(svg, x, y50, x, y999, colors[i], 1, "2,2");
            svg_line(svg, x, y50, x, y99, colors[i], 3, "");
            svg_line(svg, x - 4, y999, x + 4, y999, colors[i], 1, "");
            svg_dot(svg, x, y50, 4, dot_fill(spin, colors[i]), colors[i]);
        }
    }
}

static void rate_panel(struct svg *svg, unsigned size, const struct axes *axes,
                       const struct transport_series *series, unsigned count)
{
    struct svg_panel panel = panel_at(svg, size, 1);
    panel.y_from = axes->y_from;
    panel.y_to = axes->y_to;
    for (unsigned depth = 0; depth < TRANSPORT_DEPTHS; depth++) {
        svg_range_add(&panel.x_from, &panel.x_to, transport_depths[depth] / 1.5);
        svg_range_add(&panel.x_from, &panel.x_to, transport_depths[depth] * 1.5);
    }
    char size_text[16];
    char title[64];
    (void)snprintf(title, sizeof(title), "%s: signals per second, by depth",
                   transport_size_text(transport_sizes[size], size_text));
    svg_panel_draw(&panel, title);
    for (unsigned depth = 0; depth < TRANSPORT_DEPTHS; depth++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", transport_depths[depth]);
        svg_text(svg, svg_panel_x(&panel, transport_depths[depth]), panel.top + panel.height + 16,
                 11, SVG_MIDDLE, "#444444", text);
    }
    for (unsigned i = 0; i < count; i++)
        for (unsigned spin = 0; spin < TRANSPORT_SPINS; spin++)
            for (unsigned depth = 0; depth < TRANSPORT_DEPTHS; depth++) {
                const struct transport_cell *cell = &series[i].cells[spin][size][depth];
                double x = svg_panel_x(&panel, transport_depths[depth]);
                double y = svg_panel_y(&panel, cell->signals);
                if (depth + 1 < TRANSPORT_DEPTHS)
                    svg_line(svg, x, y, svg_panel_x(&panel, transport_depths[depth + 1]),
                             svg_panel_y(&panel, cell[1].signals), colors[i], 1.5, dashes[spin]);
                svg_dot(svg, x, y, 3, dot_fill(spin, colors[i]), colors[i]);
            }
}

static void legend(struct svg *svg, const struct transport_series *series, unsigned count,
                   const char *note)
{
    double x = LEFT;
    for (unsigned i = 0; i < count; i++, x += 80) {
        svg_box(svg, x, 34, 12, 12, colors[i], "none");
        svg_text(svg, x + 17, 45, 13, SVG_START, "#222222", series[i].name);
    }
    x += 20;
    for (unsigned spin = 0; spin < TRANSPORT_SPINS; spin++, x += 110) {
        svg_line(svg, x, 40, x + 24, 40, "#444444", 1.5, dashes[spin]);
        svg_dot(svg, x + 12, 40, 4, dot_fill(spin, "#444444"), "#444444");
        svg_text(svg, x + 30, 45, 13, SVG_START, "#222222", transport_spin_names[spin]);
    }
    svg_text(svg, x + 10, 45, 12, SVG_START, "#666666", note);
}

enum err transport_plot(const char *path, const struct transport_series *series, unsigned count,
                        const char *note, struct diag *diag)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return diag_set(diag, err_from_errno(errno), "cannot write %s: %s", path, strerror(errno));
    struct svg svg;
    double width = LEFT + TRANSPORT_SIZES * (double)(PANEL_WIDTH + GAP_X) - GAP_X + 30;
    svg_begin(&svg, file, width, TOP + 2 * PANEL_HEIGHT + GAP_Y + 40);
    svg_text(&svg, width / 2, 22, 16, SVG_MIDDLE, "#111111",
             "trellis bench transport: what a message costs");
    legend(&svg, series, count, note);
    struct axes latency = latency_axes(series, count);
    struct axes rate = rate_axes(series, count);
    for (unsigned size = 0; size < TRANSPORT_SIZES; size++) {
        latency_panel(&svg, size, &latency, series, count);
        rate_panel(&svg, size, &rate, series, count);
    }
    bool good = svg_end(&svg);
    if (fclose(file) || !good)
        return diag_set(diag, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return ERR_NONE;
}
