/* Dense int8 convolution inside its own input.
 *
 * A row or a column of what is left of the output is computed at a time. What is left of the input stays at the end of
 * the buffer, rows inside columns or columns inside rows, so that what a strip frees lies in front; where the direction
 * changes it is transposed in place. Outputs are written one behind the other and put in their places at the end.
 * Four windows are copied before any of their outputs is written. (Gural and Murmann, ICML 2019.) */
#include "trec_peeled_conv2d_s8.h"

#include "trec_arch.h" /* defines: trec_multiply, trec_widen */
#include "trec_rows.h" /* defines: trec_rows, trec_rows_requantize */

enum { ROWS = 0, COLUMNS = 1 };

/* What is left of the input: (outer, inner, in_c), where rows are outer, or columns. */
typedef struct {
    const trec_peeled_conv2d *p;
    int8_t *pixels;
    int32_t outer;     /* ROWS or COLUMNS */
    int32_t corner[2]; /* the first row and column that are left */
    int32_t done[2];   /* rows and columns of the output that are written */
} rest;

/* Places of pixels in an array: transposed from (outer, inner), or, if there are runs, from the order of peeling. */
typedef struct {
    int32_t outer, inner;
    const trec_peeled_conv2d *peeled;
} places;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t row_length(const trec_peeled_conv2d *p)
{
    return p->window.kernel_h * p->window.kernel_w * p->window.in_c;
}

int32_t trec_peeled_conv2d_scratch_bytes(const trec_peeled_conv2d *p)
{
    return 8 * ((row_length(p) + 1) / 2 * 2) + 16 * p->group;
}

/* How many outputs are written before that of position (y, x). */
static int32_t written_before(const trec_peeled_conv2d *p, int32_t y, int32_t x)
{
    int32_t at[2] = {y, x}, left[2] = {p->window.out_h, p->window.out_w}, before = 0;
    for (int32_t i = 0;; i++) {
        const int32_t across = i & 1, n = p->runs[i];
        if (at[across] < n) {
            return before + at[across] * left[1 - across] + at[1 - across];
        }
        before += n * left[1 - across];
        at[across] -= n;
        left[across] -= n;
    }
}

/* The place that the pixel of place i comes from. */
static int32_t source(const places *order, int32_t i)
{
    if (order->peeled != NULL) {
        const int32_t y = i / order->inner;
        return written_before(order->peeled, y, i - y * order->inner);
    }
    const int32_t x = i / order->outer;
    return (i - x * order->outer) * order->inner + x;
}

static void swap(int8_t *a, int8_t *b, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const int8_t kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

/* Moves all pixels of n_bytes to their places, cycle by cycle, each from its smallest place on. */
static void permute(int8_t *pixels, const places *order, int32_t n_bytes)
{
    const int32_t n = order->outer * order->inner;
    for (int32_t first = 0; first < n; first++) {
        int32_t i = source(order, first);
        while (i > first) {
            i = source(order, i);
        }
        if (i == first) {
            for (int32_t from = source(order, i); from != first; from = source(order, i)) {
                swap(pixels + i * n_bytes, pixels + from * n_bytes, n_bytes);
                i = from;
            }
        }
    }
}

static int32_t stride_of(const trec_window *w, int32_t axis)
{
    return axis == ROWS ? w->stride_h : w->stride_w;
}

static int32_t pad_of(const trec_window *w, int32_t axis)
{
    return axis == ROWS ? w->pad_h : w->pad_w;
}

static int32_t size_of(const trec_window *w, int32_t axis)
{
    return axis == ROWS ? w->in_h : w->in_w;
}

/* Lets go of the outer lines in front that no output needs any more. */
static void release(rest *r)
{
    const trec_window *w = &r->p->window;
    const int32_t axis = r->outer, inner = size_of(w, 1 - axis) - r->corner[1 - axis];
    const int32_t first = trec_clamp(r->done[axis] * stride_of(w, axis) - pad_of(w, axis), 0, size_of(w, axis));
    r->pixels += (first - r->corner[axis]) * inner * w->in_c;
    r->corner[axis] = first;
}

static void turn(rest *r)
{
    const trec_window *w = &r->p->window;
    const int32_t outer = size_of(w, r->outer) - r->corner[r->outer];
    const int32_t inner = size_of(w, 1 - r->outer) - r->corner[1 - r->outer];
    const places order = {outer, inner, NULL};
    permute(r->pixels, &order, w->in_c);
    r->outer = 1 - r->outer;
}

/* Copies the window at pixel (y, x) of the input into a row of a block; what lies outside is the zero point. */
static void read_window(const rest *r, int32_t y, int32_t x, int16_t *row)
{
    const trec_window *w = &r->p->window;
    const int32_t inner = size_of(w, 1 - r->outer) - r->corner[1 - r->outer];
    int32_t element = 0;
    for (int32_t ky = y; ky < y + w->kernel_h; ky++) {
        for (int32_t kx = x; kx < x + w->kernel_w; kx++, element += w->in_c) {
            const int32_t at[2] = {ky - r->corner[ROWS], kx - r->corner[COLUMNS]};
            if (ky >= 0 && ky < w->in_h && kx >= 0 && kx < w->in_w) {
                trec_widen(r->pixels + (at[r->outer] * inner + at[1 - r->outer]) * w->in_c, w->in_c, element, row);
            } else {
                for (int32_t e = element; e < element + w->in_c; e++) {
                    row[(e >> 1) * 8 + (e & 1)] = (int16_t)r->p->in_zero;
                }
            }
        }
    }
    if ((element & 1) != 0) {
        row[(element >> 1) * 8 + 1] = 0;
    }
}

/* Outputs of n windows that were copied to scratch, behind which sums have room: (group, 4). output: (n, out_c) */
static void multiply(const trec_peeled_conv2d *p, int32_t n, int32_t *scratch, int8_t *output)
{
    const int32_t n_pairs = (row_length(p) + 1) / 2;
    int32_t *sums = scratch + 4 * n_pairs;
    trec_rows rows = {.n = n, .out_c = p->out_c};
    trec_kernels kernels = {.step = 4 * n_pairs, .n_pairs = n_pairs};
    for (; rows.first < p->out_c; rows.first += rows.count) {
        rows.count = smaller(p->group, p->out_c - rows.first);
        for (int32_t i = 0; i < 4 * rows.count; i++) {
            sums[i] = p->bias[rows.first + i / 4];
        }
        kernels.first = p->weights + rows.first / 2 * kernels.step;
        kernels.count = (rows.count + 1) / 2;
        trec_multiply((const int16_t *)scratch, &kernels, sums);
        trec_rows_requantize(&p->rescale, &rows, sums, output);
    }
}

/* One row or column of the output, from what is not written of the other axis on. Returns where the next one goes. */
static int8_t *peel(rest *r, int32_t axis, int32_t *scratch, int8_t *output)
{
    const trec_window *w = &r->p->window;
    const int32_t end = axis == ROWS ? w->out_w : w->out_h;
    int32_t at[2] = {r->done[ROWS], r->done[COLUMNS]};
    while (at[1 - axis] < end) {
        const int32_t n = smaller(4, end - at[1 - axis]);
        for (int32_t i = 0; i < 4; i++) {
            read_window(r, at[ROWS] * w->stride_h - w->pad_h, at[COLUMNS] * w->stride_w - w->pad_w,
                        (int16_t *)scratch + 2 * i);
            at[1 - axis] += i < n - 1;
        }
        at[1 - axis]++;
        multiply(r->p, n, scratch, output);
        output += n * r->p->out_c;
    }
    r->done[axis]++;
    return output;
}

void trec_peeled_conv2d_s8(const trec_peeled_conv2d *p, int8_t *input, void *scratch, int8_t *output)
{
    rest r = {.p = p, .pixels = input};
    int8_t *next = output;
    for (int32_t i = 0; i < p->n_runs; i++) {
        for (int32_t n = p->runs[i]; n > 0; n--) {
            release(&r);
            if (r.outer != (i & 1)) {
                turn(&r);
                release(&r);
            }
            next = peel(&r, i & 1, scratch, next);
        }
    }
    if (p->n_runs > 1) {
        const places order = {p->window.out_h, p->window.out_w, p};
        permute(output, &order, p->out_c);
    }
}
