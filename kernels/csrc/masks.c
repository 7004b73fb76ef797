/* Instance masks over boxes as run lengths, without the pixels between. Down a column of the picture values are
 * linear between one row of the mask and the next, so where they pass one half follows from the two. Compiled so
 * that nothing is contracted: columns are placed by the same float32 operations as pasting has. */
#include <math.h>
#include <stddef.h>

#include "kernels.h"

#define LONGEST_SIDE (1 << 16)
#define LONGEST_EDGE (1 << 24) /* of a picture: float32 counts its pixels */

static int check_picture(int64_t n, int64_t h, int64_t w) {
    if (n < 0 || n > INT32_MAX || h < 1 || w < 1 || h > LONGEST_EDGE || w > LONGEST_EDGE) return RZK_SHAPE;
    return RZK_OK;
}

static float within(float value, float most) { return value < 0 ? 0 : value > most ? most : value; }

int rzk_mask_columns(const float *boxes, int64_t n, int64_t h, int64_t w, int64_t *bounds, int64_t *starts) {
    if (check_picture(n, h, w)) return RZK_SHAPE;
    if (!bounds || (n && (!boxes || !starts))) return RZK_NULL;
    for (int64_t i = 0; i < 4 * n; i++)
        if (!isfinite(boxes[i])) return RZK_VALUE;
    bounds[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const float *box = boxes + 4 * i;
        const float start = within(floorf(box[0]) - 1, (float)w);
        float stop = within(ceilf(box[2]) + 1, (float)w);
        if (stop < start) stop = start;
        starts[i] = (int64_t)start;
        bounds[i + 1] = bounds[i] + (int64_t)stop - (int64_t)start;
    }
    return RZK_OK;
}

/* Bounds and starts as rzk_mask_columns writes them. */
static int check_windows(int64_t n, int64_t w, const int64_t *bounds, const int64_t *starts) {
    if (bounds[0] != 0) return RZK_VALUE;
    for (int64_t i = 0; i < n; i++) {
        const int64_t columns = bounds[i + 1] - bounds[i];
        if (bounds[i] < 0 || columns < 0 || columns > w || starts[i] < 0 || starts[i] > w - columns)
            return RZK_VALUE;
    }
    return RZK_OK;
}

/* The mask's rows in one column of the picture, with the zeros above and below: side + 2 nodes. */
static void column_nodes(const float *mask, int64_t side, float x, double *nodes) {
    double place = ((double)x + 1) * ((double)side / 2) + 0.5;
    if (!(place >= 0)) place = 0; /* NaN, too: a box without width */
    if (place > (double)(side + 1)) place = (double)(side + 1);
    int64_t left = (int64_t)place;
    if (left > side) left = side;
    const double share = place - (double)left;
    nodes[0] = nodes[side + 1] = 0;
    for (int64_t k = 0; k < side; k++) {
        const double a = left > 0 ? mask[k * side + left - 1] : 0;
        const double b = left < side ? mask[k * side + left] : 0;
        nodes[k + 1] = a + share * (b - a);
    }
}

/* Rows at which one column begins or ends, ascending; -1 if rounding could decide one. */
static int32_t column_crossings(const double *nodes, int64_t side, double top, double bottom, double doubt, int64_t h,
                                int32_t *rows) {
    const double spacing = (bottom - top) / (double)side;
    int32_t count = 0;
    for (int64_t k = 1; k <= side; k++)
        if (!(fabs(nodes[k] - 0.5) > doubt)) return -1;
    for (int64_t k = 0; k <= side; k++) {
        if ((nodes[k] >= 0.5) == (nodes[k + 1] >= 0.5)) continue;
        const double rise = nodes[k + 1] - nodes[k];
        const double place = top + ((double)k - 0.5 + (0.5 - nodes[k]) / rise) * spacing - 0.5;
        if (!(fabs(place - nearbyint(place)) * fabs(rise) > doubt * fabs(spacing))) return -1;
        const double row = ceil(place);
        int32_t at = (int32_t)(row < 0 ? 0 : row > (double)h ? (double)h : row), i = count++;
        for (; i > 0 && rows[i - 1] > at; i--) rows[i] = rows[i - 1]; /* a box upside down */
        rows[i] = at;
    }
    return count;
}

int rzk_mask_crossings(const float *masks, int64_t masks_size, const float *boxes, int64_t n, int64_t side, int64_t h,
                       int64_t w, double doubt, const int64_t *bounds, const int64_t *starts, int32_t *counts,
                       int32_t *rows, int64_t rows_size, double *work, int64_t work_size) {
    if (check_picture(n, h, w) || side < 1 || side > LONGEST_SIDE) return RZK_SHAPE;
    if (n == 0) return RZK_OK;
    if (!masks || !boxes || !bounds || !starts || !work) return RZK_NULL;
    const int bad = check_windows(n, w, bounds, starts);
    if (bad) return bad;
    if (bounds[n] && (!counts || !rows)) return RZK_NULL;
    if (masks_size / side / side < n || rows_size / (side + 1) < bounds[n] || work_size < side + 2)
        return RZK_TOO_SMALL;
    for (int64_t i = 0; i < n; i++) {
        const float *box = boxes + 4 * i, *mask = masks + i * side * side;
        for (int64_t c = bounds[i]; c < bounds[i + 1]; c++) {
            const float pixel = (float)(starts[i] + c - bounds[i]);
            column_nodes(mask, side, (pixel + 0.5f - box[0]) / (box[2] - box[0]) * 2 - 1, work);
            counts[c] =
                column_crossings(work, side, (double)box[1], (double)box[3], doubt, h, rows + c * (side + 1));
        }
    }
    return RZK_OK;
}

/* One number of COCO's text: five bits a letter, the lowest first. Returns the letters, 0 if there is no room. */
static int64_t write_number(int64_t value, char *text, int64_t room) {
    int64_t letters = 0;
    for (int more = 1; more; letters++) {
        if (letters == room) return 0;
        int64_t five = value & 31;
        value >>= 5;
        more = (five & 16) ? value != -1 : value != 0;
        text[letters] = (char)((more ? five | 32 : five) + 48);
    }
    return letters;
}

/* The text of one mask from the places at which it begins or ends; 0 if there is no room. */
static int64_t write_runs(const int64_t *places, int64_t count, int64_t pixels, char *text, int64_t room) {
    int64_t length = 0, before = 0, last[2] = {0, 0};
    for (int64_t i = 0; i <= count; i++) {
        const int64_t run = (i < count ? places[i] : pixels) - before;
        if (i == count && count && run == 0) break; /* it ends with the picture */
        const int64_t letters = write_number(i > 2 ? run - last[i % 2] : run, text + length, room - length);
        if (!letters) return 0;
        length += letters;
        last[i % 2] = run;
        before += run;
    }
    return length;
}

int rzk_mask_runs(int64_t n, int64_t h, int64_t w, const int64_t *bounds, const int64_t *starts, const int32_t *counts,
                  int64_t side, const int32_t *rows, int64_t rows_size, const int32_t *more_counts, int64_t more,
                  const int32_t *more_rows, int64_t more_rows_size, int64_t *work, int64_t work_size, char *text,
                  int64_t text_size, int64_t *lengths) {
    if (check_picture(n, h, w) || side < 1 || side > LONGEST_SIDE) return RZK_SHAPE;
    if (n == 0) return RZK_OK;
    if (!bounds || !starts || !lengths || !text) return RZK_NULL;
    const int bad = check_windows(n, w, bounds, starts);
    if (bad) return bad;
    if (bounds[n] && (!counts || !rows || !work)) return RZK_NULL;
    if (rows_size / (side + 1) < bounds[n]) return RZK_TOO_SMALL;
    int64_t next = 0, next_row = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t places = 0;
        for (int64_t c = bounds[i]; c < bounds[i + 1]; c++) {
            const int32_t *own = rows + c * (side + 1);
            int64_t count = counts[c];
            if (count < 0) { /* somebody looked */
                if (next >= more || !more_counts) return RZK_TOO_SMALL;
                count = more_counts[next++];
                own = more_rows ? more_rows + next_row : 0;
                if (count < 0 || count > more_rows_size - next_row) return RZK_VALUE;
                if (count && !more_rows) return RZK_NULL;
                next_row += count;
            } else if (count > side + 1) {
                return RZK_VALUE;
            }
            if (places + count > work_size) return RZK_TOO_SMALL;
            for (int64_t k = 0; k < count; k++) {
                if (own[k] < 0 || own[k] > h) return RZK_VALUE;
                const int64_t place = (starts[i] + c - bounds[i]) * h + own[k];
                if (places && work[places - 1] == place)
                    places--; /* it ends where it begins again */
                else if (places && work[places - 1] > place)
                    return RZK_VALUE;
                else
                    work[places++] = place;
            }
        }
        lengths[i] = write_runs(work, places, h * w, text, text_size);
        if (!lengths[i]) return RZK_TOO_SMALL;
        text += lengths[i];
        text_size -= lengths[i];
    }
    return RZK_OK;
}
