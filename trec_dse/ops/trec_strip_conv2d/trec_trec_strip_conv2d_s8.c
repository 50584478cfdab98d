/* TREC int8 convolution on strips, with the two-step stack.
 *
 * All strips that some output uses are hashed, four at a time, and put into clusters, one group of channels after the
 * other. Then come the outputs, a tile of eight channels at a time: every centroid is multiplied by some parts of the
 * kernels and the products, rounded to int16, fill a table in which the id of a cluster finds those of all eight
 * channels; an output adds up what its strips' ids name. A strip of padding alone is worth exactly nothing: it belongs
 * to no cluster, and the row behind the last cluster's, which is zero, stands for it.
 *
 * Ids lie column by column, so that those of a line of parts stand side by side.
 */
#include "trec_trec_strip_conv2d_s8.h"

#include "trec_arch.h"  /* defines: trec_multiply_narrow, trec_add_parts, trec_widen */
#include "trec_hash.h"  /* defines: trec_hash, trec_hash_sign */
#include "trec_rescale.h" /* defines: trec_is_plain */
#include "trec_rows.h"  /* defines: trec_rows, trec_rows_requantize */
#include "trec_stack.h" /* defines: trec_stack, trec_means */

enum { TILE = TREC_PART_CHANNELS };

/* The scratch of one call, cut into its arrays: widest elements first, so that none needs padding. What clustering
 * needs (the stack, four vectors, used columns) and what the outputs need (table, sums) lie over each other. */
typedef struct {
    int32_t *sums;      /* (positions / 4, TILE, 4): what the passes so far add up to; nothing if there is one pass */
    int16_t *table;     /* (table_rows, pass_lines, kernel_h, TILE) */
    trec_stack stack;
    int16_t *block;     /* four vectors */
    uint8_t *columns;   /* (grid_w): whether an output uses the strips that start there */
    int16_t *centroids; /* (n_groups, stack_size) */
    uint16_t *found;    /* (n_groups), clusters of each group */
    uint8_t *ids;       /* (n_groups, grid_w, grid_h): the cluster of each strip */
} workspace;

/* Vectors of one group on their way into clusters, four at a time. */
typedef struct {
    int32_t group;
    int32_t depth;       /* channels of a pixel that belong to the group */
    int32_t is_in_piece; /* whether a vector lies in one piece of the image */
    int32_t n;
    uint8_t *places[4]; /* of their ids */
} batch;

/* What the lines of one pass have in common, and where the first of them lies. */
typedef struct {
    int32_t m; /* first channel of the tile */
    int32_t group, column;
    int32_t n_lines;
    int32_t is_first, is_last;
} pass;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t count_pairs(const trec_trec_strip_conv2d *p)
{
    return (p->length + 1) / 2;
}

static int32_t count_blocks(const trec_trec_strip_conv2d *p)
{
    return (p->window.out_h * p->window.out_w + 3) / 4;
}

/* Lines of a group. */
static int32_t count_columns(const trec_trec_strip_conv2d *p)
{
    return p->window.kernel_w / p->strip_w;
}

/* Elements of the stack of one group, with places for whole blocks. */
static int32_t stack_size(const trec_trec_strip_conv2d *p)
{
    return (p->max_clusters + 3) / 4 * 8 * count_pairs(p);
}

static int32_t count_sums(const trec_trec_strip_conv2d *p)
{
    return p->pass_lines == p->n_groups * count_columns(p) ? 0 : count_blocks(p) * 4 * TILE;
}

/* Rows of the table: those of whole blocks of clusters, and one of zeros. */
static int32_t table_rows(const trec_trec_strip_conv2d *p)
{
    return larger((p->max_clusters + 3) / 4 * 4, p->max_clusters + 1);
}

/* Elements of a row of the table. */
static int32_t row_size(const trec_trec_strip_conv2d *p)
{
    return p->pass_lines * p->window.kernel_h * TILE;
}

/* Words of what lies over each other. */
static int32_t count_words(const trec_trec_strip_conv2d *p)
{
    const int32_t tables = 2 * p->max_clusters + ((int32_t)1 << p->hash_bits);
    const int32_t clustering = 4 * stack_size(p) + 16 * count_pairs(p) + 2 * tables + p->grid_w;
    const int32_t recovery = 4 * count_sums(p) + 2 * table_rows(p) * row_size(p);
    return (larger(clustering, recovery) + 3) / 4;
}

int32_t trec_trec_strip_conv2d_scratch_bytes(const trec_trec_strip_conv2d *p)
{
    const int32_t grid = p->n_groups * p->grid_h * p->grid_w;
    return 4 * count_words(p) + 2 * p->n_groups * (stack_size(p) + 1) + grid;
}

static workspace cut(const trec_trec_strip_conv2d *p, void *scratch)
{
    workspace w = {.sums = scratch};
    w.table = (int16_t *)(w.sums + count_sums(p));
    w.stack = (trec_stack){.n_pairs = count_pairs(p), .hash_bits = p->hash_bits, .max_clusters = p->max_clusters};
    w.stack.sums = scratch;
    w.block = (int16_t *)(w.stack.sums + stack_size(p));
    w.stack.counts = (uint16_t *)(w.block + 8 * count_pairs(p));
    w.stack.reverse = w.stack.counts + p->max_clusters;
    w.stack.signatures = w.stack.reverse + ((int32_t)1 << p->hash_bits);
    w.columns = (uint8_t *)(w.stack.signatures + p->max_clusters);
    w.centroids = (int16_t *)(w.sums + count_words(p));
    w.found = (uint16_t *)(w.centroids + p->n_groups * stack_size(p));
    w.ids = (uint8_t *)(w.found + p->n_groups);
    return w;
}

/* Whether a window of n_out, stride pixels apart, has a part at this place of its axis; parts are step pixels wide. */
static uint8_t is_used(int32_t place, int32_t kernel, int32_t step, int32_t stride, int32_t n_out)
{
    for (int32_t first = 0; first < kernel; first += step) {
        const int32_t window = place - first;
        if (window >= 0 && window % stride == 0 && window / stride < n_out) {
            return 1;
        }
    }
    return 0;
}

/* Copies the next vector to the block: that of the strip which starts at column x of a line of the image, the input's
 * zero point where there is none. */
static void read_vector(const trec_trec_strip_conv2d *p, const batch *b, const int8_t *line, int32_t x, int16_t *row)
{
    const trec_window *w = &p->window;
    const int8_t *pixel = line + x * w->in_c + b->group * b->depth;
    if (b->is_in_piece != 0 && x >= 0 && x + p->strip_w <= w->in_w) {
        trec_widen(pixel, p->length, 0, row);
        return;
    }
    for (int32_t first = 0; first < p->length; first += b->depth, x++, pixel += w->in_c) {
        if (x >= 0 && x < w->in_w) {
            trec_widen(pixel, b->depth, first, row);
        } else {
            for (int32_t k = first; k < first + b->depth; k++) {
                row[k / 2 * 8 + k % 2] = (int16_t)p->in_zero;
            }
        }
    }
}

/* Finds the clusters of the vectors in the block. */
static void join(const trec_trec_strip_conv2d *p, workspace *w, batch *b)
{
    const trec_kernels vectors = {
        .first = p->hash + b->group * ((p->hash_bits + 1) / 2 * 4 * count_pairs(p)),
        .step = 4 * count_pairs(p),
        .count = (p->hash_bits + 1) / 2,
        .n_pairs = count_pairs(p),
    };
    const trec_hash hash = {vectors, p->hash_bits, p->starts + b->group * p->hash_bits};
    int32_t sums[4 * TREC_MOST_BITS];
    uint16_t signatures[4];
    trec_hash_sign(&hash, w->block, sums, signatures);
    for (int32_t i = 0; i < b->n; i++) {
        *b->places[i] = trec_stack_put(&w->stack, signatures[i], w->block + 2 * i);
    }
    b->n = 0;
}

/* One row of the grid; line: of the image, NULL where there is none, ids: of its first strip */
static void cluster_row(const trec_trec_strip_conv2d *p, const int8_t *line, workspace *w, batch *b, uint8_t *ids)
{
    for (int32_t s = 0; s < p->grid_w; s++, ids += p->grid_h) {
        const int32_t x = s - p->window.pad_w;
        if (line == NULL || x + p->strip_w <= 0 || x >= p->window.in_w) {
            *ids = (uint8_t)p->max_clusters;
        } else if (w->columns[s] != 0) {
            read_vector(p, b, line, x, w->block + 2 * b->n);
            b->places[b->n] = ids;
            if (++b->n == 4) {
                join(p, w, b);
            }
        }
    }
}

/* Step one for one group: fills its stack and its ids. */
static void cluster_strips(const trec_trec_strip_conv2d *p, const int8_t *input, int32_t group, workspace *w)
{
    const trec_window *win = &p->window;
    uint8_t *ids = w->ids + group * p->grid_w * p->grid_h;
    batch b = {.group = group, .depth = win->in_c / p->n_groups, .is_in_piece = p->n_groups == 1 || p->strip_w == 1};
    trec_stack_clear(&w->stack);
    __builtin_memset(w->block, 0, (size_t)count_pairs(p) * 16u); /* behind an odd length stands a zero */
    for (int32_t s = 0; s < p->grid_w; s++) {
        w->columns[s] = is_used(s, win->kernel_w, p->strip_w, win->stride_w, win->out_w);
    }
    for (int32_t r = 0; r < p->grid_h; r++) {
        const int32_t y = r - win->pad_h;
        if (y < 0 || y >= win->in_h) {
            cluster_row(p, NULL, w, &b, ids + r);
        } else if (is_used(r, win->kernel_h, 1, win->stride_h, win->out_h) != 0) {
            cluster_row(p, input + y * win->in_w * win->in_c, w, &b, ids + r);
        }
    }
    if (b.n > 0) {
        join(p, w, &b);
    }
}

/* Fills the table with the products of the pass. */
static void multiply(const trec_trec_strip_conv2d *p, const workspace *w, const pass *now)
{
    const int32_t n_columns = count_columns(p);
    const int32_t part_step = 4 * count_pairs(p);
    const int32_t line_step = p->window.kernel_h * part_step;
    trec_kernels kernels = {.step = p->n_groups * n_columns * line_step, .n_pairs = count_pairs(p)};
    trec_narrow narrow = {.row_step = 2 * row_size(p)};
    int16_t *table = w->table;
    kernels.count = smaller(TILE / 2, (p->out_c - now->m + 1) / 2);
    for (int32_t c = 0; c < 2 * kernels.count; c++) {
        const int32_t shift = now->m + c < p->out_c ? p->product_shifts[now->m + c] : 0;
        narrow.halves[c] = ((int32_t)1 << shift) >> 1;
        narrow.shifts[c] = shift;
    }
    for (int32_t line = 0; line < now->n_lines; line++) {
        const int32_t group = n_columns > 1 ? now->group : now->group + line;
        const int16_t *centroids = w->centroids + group * stack_size(p);
        const int32_t first = n_columns > 1 ? group * n_columns + now->column + line : group;
        kernels.first = p->weights + now->m / 2 * kernels.step + first * line_step;
        narrow.n_blocks = (w->found[group] + 3) / 4;
        for (int32_t ky = 0; ky < p->window.kernel_h; ky++, table += TILE) {
            trec_multiply_narrow(centroids, &kernels, &narrow, table);
            kernels.first += part_step;
        }
    }
}

/* Adds their parts to n outputs. x: column of the first, row: ids of the first in its row; both are moved on */
static void add_parts(const trec_trec_strip_conv2d *p, const trec_parts *parts, int32_t n, trec_part_sums to,
                      const uint8_t **row, int32_t *x)
{
    while (n > 0) {
        const int32_t run = smaller(n, p->window.out_w - *x);
        trec_add_parts(parts, *row + *x * parts->out_step, run, &to);
        n -= run;
        to.start += run * to.start_step;
        to.sums += run;
        to.outputs += run * to.out_c;
        *x += run;
        if (*x == p->window.out_w) {
            *x = 0;
            *row += p->window.stride_h;
        }
    }
}

/* Adds the products of the pass to all outputs of the tile; the last pass finishes them. They are four at a time where
 * there are sums to keep. start: the bias of channel c is
 * element 4c */
static void recover(const trec_trec_strip_conv2d *p, const workspace *w, const pass *now, const int32_t *start,
                    int8_t *output)
{
    const trec_window *win = &p->window;
    const int32_t grid = p->grid_w * p->grid_h;
    const int32_t positions = win->out_h * win->out_w;
    const trec_parts parts = {
        .table = w->table,
        .row_step = 2 * row_size(p),
        .n_lines = now->n_lines,
        .n_parts = win->kernel_h,
        .line_step = count_columns(p) > 1 ? p->strip_w * p->grid_h : grid,
        .out_step = win->stride_w * p->grid_h,
    };
    trec_rows rows = {.first = now->m, .count = smaller(TILE, p->out_c - now->m), .n = 4, .out_c = p->out_c};
    const uint8_t *row = w->ids + now->group * grid + now->column * p->strip_w * p->grid_h;
    int32_t own[4 * TILE];
    trec_part_sums to = {
        .start = start,
        .start_step = 1 - now->is_first,
        .sums = count_sums(p) > 0 ? w->sums : own,
        .zero = p->rescale.zero,
        .out_c = p->out_c,
    };
    int32_t x = 0;
    if (now->is_last != 0 && rows.count == TILE && trec_is_plain(&p->rescale) != 0) {
        to.factors = p->rescale.factors + now->m;
    }
    const int32_t step = to.factors != NULL && now->is_first != 0 ? positions : 4;
    for (int32_t i = 0; i < positions; i += step, output += step * p->out_c) {
        rows.n = smaller(step, positions - i);
        to.start = now->is_first != 0 ? start : to.sums;
        to.outputs = output + now->m;
        add_parts(p, &parts, rows.n, to, &row, &x);
        if (now->is_last != 0 && to.factors == NULL) {
            trec_rows_requantize(&p->rescale, &rows, to.sums, output);
        }
        to.sums += to.sums == own ? 0 : 4 * TILE;
    }
}

/* Step two: the outputs of the channels from m on that make up a tile. */
static void compute_tile(const trec_trec_strip_conv2d *p, const workspace *w, int32_t m, int8_t *output)
{
    const int32_t n_columns = count_columns(p);
    const int32_t n_lines = n_columns > 1 ? n_columns : p->n_groups; /* that passes are cut from */
    int32_t start[4 * TILE];
    pass now = {.m = m};
    for (int32_t c = 0; c < TILE; c++) {
        start[4 * c] = m + c < p->out_c ? p->bias[m + c] : 0;
    }
    for (int32_t group = 0; group < (n_columns > 1 ? p->n_groups : 1); group++) {
        for (int32_t line = 0; line < n_lines; line += now.n_lines) {
            now.n_lines = smaller(p->pass_lines, n_lines - line);
            now.group = n_columns > 1 ? group : line;
            now.column = n_columns > 1 ? line : 0;
            now.is_first = group == 0 && line == 0;
            now.is_last = now.group == (n_columns > 1 ? p->n_groups - 1 : line) && line + now.n_lines == n_lines;
            multiply(p, w, &now);
            recover(p, w, &now, start, output);
        }
    }
}

uint32_t trec_trec_strip_conv2d_s8(const trec_trec_strip_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const trec_means means = {.zero = p->in_zero, .fraction_bits = p->fraction_bits, .length = p->length};
    workspace w = cut(p, scratch);
    uint32_t total = 0;
    for (int32_t group = 0; group < p->n_groups; group++) {
        cluster_strips(p, input, group, &w);
        trec_stack_divide(&w.stack, &means, w.centroids + group * stack_size(p));
        w.found[group] = (uint16_t)w.stack.n;
        total += (uint32_t)w.stack.n;
    }
    __builtin_memset(w.table + p->max_clusters * row_size(p), 0, (size_t)row_size(p) * 2u);
    for (int32_t m = 0; m < p->out_c; m += TILE) {
        compute_tile(p, &w, m, output);
    }
    return total;
}
