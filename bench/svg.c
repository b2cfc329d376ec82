#include "svg.h"

#define WIDTH 720.0
#define LEFT 230.0 /* of the bars: what is left of it are labels */
#define RIGHT 110.0
#define TOP 48.0
#define ROW 30.0
#define PLOT_HEIGHT 300.0
#define MARGIN 70.0

/* Text between tags; control characters are not allowed in XML. */
static void put_text(FILE *f, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        default: fputc((unsigned char)*text < 32 ? ' ' : *text, f);
        }
}

static void put_at(FILE *f, double x, double y, const char *anchor, const char *text)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put_text(f, text);
    fputs("</text>\n", f);
}

static void begin(FILE *f, double height, const char *title)
{
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" font-family=\"sans-serif\" font-size=\"13\">\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", WIDTH, height);
    put_at(f, WIDTH / 2, 26, "middle", title);
}

static double largest(const infer_svg_point *points, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = points[i].value > most ? points[i].value : most;
    return most > 0 ? most : 1;
}

void infer_svg_bars(FILE *f, const char *title, const char *unit, const infer_svg_point *points, size_t n)
{
    double most = largest(points, n);
    begin(f, TOP + ROW * (double)n + 16, title);
    for (size_t i = 0; i < n; i++) {
        double y = TOP + ROW * (double)i, length = points[i].value / most * (WIDTH - LEFT - RIGHT);
        char value[64];
        snprintf(value, sizeof value, "%.3g %s", points[i].value, unit);
        put_at(f, LEFT - 8, y + 15, "end", points[i].label);
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#3b7dd8\"/>\n", LEFT, y, length, ROW - 9);
        put_at(f, LEFT + length + 6, y + 15, "start", value);
    }
    fputs("</svg>\n", f);
}

void infer_svg_curve(FILE *f, const char *title, const char *x_name, const char *unit, const infer_svg_point *points, size_t n)
{
    double most = largest(points, n), low = points[0].x, high = points[0].x, bottom = TOP + PLOT_HEIGHT, span = WIDTH - 2 * MARGIN;
    for (size_t i = 1; i < n; i++) {
        low = points[i].x < low ? points[i].x : low;
        high = points[i].x > high ? points[i].x : high;
    }
    begin(f, bottom + 60, title);
    fprintf(f, "<path d=\"M %.1f %.1f V %.1f H %.1f\" fill=\"none\" stroke=\"black\"/>\n", MARGIN, TOP, bottom, WIDTH - MARGIN);
    put_at(f, WIDTH / 2, bottom + 44, "middle", x_name);
    fputs("<polyline fill=\"none\" stroke=\"#3b7dd8\" stroke-width=\"2\" points=\"", f);
    for (int pass = 0; pass < 2; pass++) { /* the line, then the points on it */
        for (size_t i = 0; i < n; i++) {
            double x = MARGIN + (high > low ? (points[i].x - low) / (high - low) * span : span / 2);
            double y = bottom - points[i].value / most * (PLOT_HEIGHT - 20);
            char text[64];
            if (pass == 0) {
                fprintf(f, "%.1f,%.1f ", x, y);
                continue;
            }
            fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"#3b7dd8\"/>\n", x, y);
            snprintf(text, sizeof text, "%.3g %s", points[i].value, unit);
            put_at(f, x, y - 9, "middle", text);
            snprintf(text, sizeof text, "%g", points[i].x);
            put_at(f, x, bottom + 20, "middle", text);
        }
        if (pass == 0)
            fputs("\"/>\n", f);
    }
    fputs("</svg>\n", f);
}
