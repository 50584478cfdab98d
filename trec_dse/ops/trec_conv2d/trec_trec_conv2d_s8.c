/* TREC int8 convolution with the two-step stack.
 *
 * The rows of a slice are hashed, four at a time, and put into clusters. Then come the outputs, a tile of eight
 * channels at a time: every centroid is multiplied by its slice of the kernels and the products, rounded to int16, fill
 * a table in which the id of a cluster finds those of all eight channels; an output adds up what its ids name. Either
 * all slices are alive at once, or each is added to accumulators before the next one is clustered. With kernel reuse
 * the hash vectors are slices of the first channels, whose outputs are what the projections add up to.
 */
#include "trec_trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_multiply_narrow, trec_add_parts */
#include "trec_hash.h"   /* defines: trec_hash, trec_hash_sign */
#include "trec_rescale.h" /* defines: trec_is_plain */
#include "trec_rows.h"   /* defines: trec_rows, trec_rows_requantize */
#include "trec_stack.h"  /* defines: trec_stack, trec_means */
#include "trec_window.h" /* defines: trec_image, trec_slice, trec_window_blocks */

enum { TILE = TREC_PART_CHANNELS };
enum { BATCH_PAIRS = 64, MOST_BLOCKS = 8 };

/* The scratch of one call, cut into its arrays: widest elements first, so that none needs padding. What clustering
 * needs (the stack, some rows) and the table lie over each other; with one slice alive the centroids lie over the sums
 * instead, and the table over what stands behind them. */
typedef struct {
    int32_t *acc;   /* (tiles, positions / 4, TILE, 4); nothing if all slices are alive */
    int32_t *exact; /* (positions / 4, exact_c, 4) */
    trec_stack stack;
    int16_t *rows;        /* (batch, pairs of elements, 4, 2): rows of a slice */
    uint16_t *signatures; /* (batch, 4) */
    int16_t *table;     /* for every pass (table_rows, slices of the pass, TILE) */
    int16_t *centroids; /* (n_alive, stack_size) */
    uint16_t *found;    /* (n_alive), clusters of each slice */
    uint8_t *ids;       /* (positions, n_alive): the cluster of each row */
} workspace;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t count_positions(const trec_trec_conv2d *p)
{
    return p->window.out_h * p->window.out_w;
}

static int32_t count_blocks(const trec_trec_conv2d *p)
{
    return (count_positions(p) + 3) / 4;
}

static int32_t count_pairs(const trec_trec_conv2d *p)
{
    return (p->length + 1) / 2;
}

/* Blocks of rows that are clustered together: as many as take 1 KiB, but one at least and not many. */
static int32_t count_batch(const trec_trec_conv2d *p)
{
    const int32_t n = BATCH_PAIRS / count_pairs(p);
    return n < 1 ? 1 : smaller(n, MOST_BLOCKS);
}

/* Rows of the table: whole blocks of clusters. */
static int32_t table_rows(const trec_trec_conv2d *p)
{
    return (p->max_clusters + 3) / 4 * 4;
}

/* Elements of the stack of one slice, with places for whole blocks. */
static int32_t stack_size(const trec_trec_conv2d *p)
{
    return table_rows(p) * 2 * count_pairs(p);
}

/* The first channel of the first tile that has clustered channels. */
static int32_t first_tile(const trec_trec_conv2d *p)
{
    return p->exact_c < p->out_c ? p->exact_c / TILE * TILE : p->out_c;
}

static int32_t count_accumulators(const trec_trec_conv2d *p)
{
    const int32_t n_tiles = (p->out_c - first_tile(p) + TILE - 1) / TILE;
    return p->n_alive < p->n_slices ? n_tiles * count_blocks(p) * 4 * TILE : 0;
}

/* Words of what clustering needs besides the sums. */
static int32_t count_other_words(const trec_trec_conv2d *p)
{
    const int32_t tables = 2 * p->max_clusters + ((int32_t)1 << p->hash_bits);
    return count_batch(p) * (4 * count_pairs(p) + 2) + (tables + 1) / 2;
}

static int32_t count_table_words(const trec_trec_conv2d *p)
{
    return table_rows(p) * p->n_alive * TILE / 2;
}

/* Words of what lies over each other. */
static int32_t count_shared_words(const trec_trec_conv2d *p)
{
    const int32_t others = count_other_words(p), table = count_table_words(p);
    return p->n_alive == 1 ? stack_size(p) + larger(others, table) : larger(stack_size(p) + others, table);
}

int32_t trec_trec_conv2d_scratch_bytes(const trec_trec_conv2d *p)
{
    const int32_t words = count_accumulators(p) + count_blocks(p) * 4 * p->exact_c + count_shared_words(p);
    const int32_t centroids = p->n_alive == 1 ? 0 : 2 * stack_size(p);
    return 4 * words + p->n_alive * (centroids + 2 + count_positions(p));
}

static workspace cut(const trec_trec_conv2d *p, void *scratch)
{
    workspace w = {.acc = scratch};
    w.exact = w.acc + count_accumulators(p);
    w.stack = (trec_stack){.n_pairs = count_pairs(p), .hash_bits = p->hash_bits, .max_clusters = p->max_clusters};
    w.stack.sums = w.exact + count_blocks(p) * 4 * p->exact_c;
    w.rows = (int16_t *)(w.stack.sums + stack_size(p));
    w.signatures = (uint16_t *)(w.rows + count_batch(p) * 8 * count_pairs(p));
    w.stack.counts = w.signatures + 4 * count_batch(p);
    w.stack.reverse = w.stack.counts + p->max_clusters;
    w.stack.signatures = w.stack.reverse + ((int32_t)1 << p->hash_bits);
    int16_t *behind = (int16_t *)(w.stack.sums + count_shared_words(p));
    if (p->n_alive == 1) {
        w.centroids = (int16_t *)w.stack.sums;
        w.table = w.rows;
        w.found = (uint16_t *)behind;
    } else {
        w.centroids = behind;
        w.table = (int16_t *)w.stack.sums;
        w.found = (uint16_t *)(behind + p->n_alive * stack_size(p));
    }
    w.ids = (uint8_t *)(w.found + p->n_alive);
    return w;
}

/* Signatures of the rows in n blocks; exact: what kernel reuse adds the projections of the first of them to */
static void sign(const trec_trec_conv2d *p, const workspace *w, const trec_hash *hash, int32_t n, int32_t *exact)
{
    const int16_t *block = w->rows;
    for (int32_t b = 0; b < n; b++, block += 8 * count_pairs(p)) {
        int32_t sums[4 * TREC_MOST_BITS];
        trec_hash_sign(hash, block, sums, w->signatures + 4 * b);
        for (int32_t j = 0; j < 4 * p->exact_c; j++) {
            *exact++ += sums[j];
        }
    }
}

/* Puts n rows of the blocks into clusters; ids: n_alive apart */
static void put(const trec_trec_conv2d *p, workspace *w, int32_t n, uint8_t *ids)
{
    const int16_t *row = w->rows;
    for (int32_t i = 0; i < n; i++, ids += p->n_alive) {
        *ids = trec_stack_put(&w->stack, w->signatures[i], row);
        row += (i & 3) == 3 ? 8 * count_pairs(p) - 6 : 2;
    }
}

/* Step one for one slice: fills its stack and its ids. Some blocks are read, then signed, then put into clusters, for
 * the code of each of these steps fits into a small instruction cache, and that of all of them does not. */
static void cluster_rows(const trec_trec_conv2d *p, const int8_t *input, int32_t slice, workspace *w, uint8_t *ids)
{
    const int32_t n_blocks = count_blocks(p), batch = count_batch(p);
    const trec_image image = {&p->window, input, p->in_zero};
    const trec_slice part = {.first = slice * p->length, .n = p->length};
    const trec_kernels vectors = {
        .first = p->hash + slice * p->hash_slice,
        .step = p->hash_step,
        .count = (p->hash_bits + 1) / 2,
        .n_pairs = count_pairs(p),
    };
    const trec_hash hash = {vectors, p->hash_bits, p->starts + slice * p->start_slice};
    trec_stack_clear(&w->stack);
    for (int32_t first = 0; first < n_blocks; first += batch) {
        const int32_t n = smaller(batch, n_blocks - first);
        trec_window_blocks(&image, part, 4 * first, n, w->rows);
        sign(p, w, &hash, n, w->exact + 4 * first * p->exact_c);
        put(p, w, smaller(4 * n, count_positions(p) - 4 * first), ids + 4 * first * p->n_alive);
    }
}

/* Fills the table with the products of the slices that are alive, from the one given on, and a tile of channels. */
static void multiply(const trec_trec_conv2d *p, const workspace *w, int32_t slice, int32_t m)
{
    const int32_t vector = 4 * count_pairs(p); /* bytes of a slice of two kernels */
    trec_kernels kernels = {.step = p->n_slices * vector, .n_pairs = count_pairs(p)};
    trec_narrow narrow;
    int16_t *table = w->table;
    kernels.first = p->weights + (m / 2 * p->n_slices + slice) * vector;
    kernels.count = smaller(TILE / 2, (p->out_c - m + 1) / 2);
    for (int32_t c = 0; c < 2 * kernels.count; c++) {
        const int32_t shift = m + c < p->out_c ? p->product_shifts[m + c] : 0;
        narrow.halves[c] = ((int32_t)1 << shift) >> 1;
        narrow.shifts[c] = shift;
    }
    for (int32_t first = 0; first < p->n_alive; first += p->pass_slices) {
        const int32_t n = smaller(p->pass_slices, p->n_alive - first);
        narrow.row_step = 2 * TILE * n;
        for (int32_t s = 0; s < n; s++, kernels.first += vector) {
            narrow.n_blocks = (w->found[first + s] + 3) / 4;
            trec_multiply_narrow(w->centroids + (first + s) * stack_size(p), &kernels, &narrow, table + s * TILE);
        }
        table += table_rows(p) * n * TILE;
    }
}

/* Adds the products of all passes to n outputs; ids: of the first. The last pass finishes them where there are factors.
 */
static void add_passes(const trec_trec_conv2d *p, const int16_t *table, const uint8_t *ids, int32_t n,
                       trec_part_sums to)
{
    trec_parts parts = {.table = table, .n_lines = 1, .out_step = p->n_alive};
    const int32_t *factors = to.factors;
    for (int32_t first = 0; first < p->n_alive; first += p->pass_slices, to.start = to.sums, to.start_step = 1) {
        parts.n_parts = smaller(p->pass_slices, p->n_alive - first);
        parts.row_step = 2 * TILE * parts.n_parts;
        to.factors = first + parts.n_parts < p->n_alive ? NULL : factors;
        trec_add_parts(&parts, ids + first, n, &to);
        parts.table += table_rows(p) * TILE * parts.n_parts;
    }
}

/* Adds the products in the table to all outputs of a tile; the last slices finish them. They are four at a time where
 * there are sums to keep. */
static void recover(const trec_trec_conv2d *p, const workspace *w, int32_t slice, int32_t m, int8_t *output)
{
    const int32_t positions = count_positions(p);
    const int32_t is_last = slice + p->n_alive == p->n_slices;
    const int32_t first = larger(m, p->exact_c);
    trec_rows rows = {.first = first, .count = smaller(m + TILE, p->out_c) - first, .out_c = p->out_c};
    int32_t start[4 * TILE], own[4 * TILE];
    const int32_t tile = (m - first_tile(p)) / TILE;
    trec_part_sums to = {.start_step = slice > 0, .sums = own, .zero = p->rescale.zero, .out_c = p->out_c};
    if (p->n_alive < p->n_slices) {
        to.sums = w->acc + tile * count_blocks(p) * 4 * TILE;
    }
    if (is_last != 0 && rows.count == TILE && trec_is_plain(&p->rescale) != 0) {
        to.factors = p->rescale.factors + m;
    }
    for (int32_t c = 0; c < TILE; c++) {
        start[4 * c] = m + c < p->out_c ? p->bias[m + c] : 0;
    }
    const int32_t step = slice == 0 && to.factors != NULL && p->n_alive <= p->pass_slices ? positions : 4;
    for (int32_t i = 0; i < positions; i += step, output += step * p->out_c) {
        rows.n = smaller(step, positions - i);
        to.start = slice == 0 ? start : to.sums;
        to.outputs = output + m;
        add_passes(p, w->table, w->ids + i * p->n_alive, rows.n, to);
        if (is_last != 0 && to.factors == NULL) {
            trec_rows_requantize(&p->rescale, &rows, to.sums + 4 * (first - m), output);
        }
        to.sums += to.sums == own ? 0 : 4 * TILE;
    }
}

/* Before the first slice: the bias of the dense channels. */
static void start_exact(const trec_trec_conv2d *p, const workspace *w)
{
    const int32_t *end = w->exact + count_blocks(p) * 4 * p->exact_c;
    for (int32_t c = 0; c < p->exact_c; c++) {
        for (int32_t *block = w->exact + 4 * c; block < end; block += 4 * p->exact_c) {
            block[0] = block[1] = block[2] = block[3] = p->bias[c];
        }
    }
}

/* After the last slice: the outputs of the dense channels. */
static void finish_exact(const trec_trec_conv2d *p, const workspace *w, int8_t *output)
{
    const int32_t positions = count_positions(p);
    trec_rows rows = {.count = p->exact_c, .out_c = p->out_c};
    for (int32_t i = 0; p->exact_c > 0 && i < positions; i += 4) {
        rows.n = smaller(4, positions - i);
        trec_rows_requantize(&p->rescale, &rows, w->exact + i * p->exact_c, output + i * p->out_c);
    }
}

uint32_t trec_trec_conv2d_s8(const trec_trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const trec_means means = {.zero = p->in_zero, .fraction_bits = p->fraction_bits, .length = p->length};
    workspace w = cut(p, scratch);
    uint32_t total = 0;
    start_exact(p, &w);
    for (int32_t slice = 0; slice < p->n_slices; slice += p->n_alive) {
        for (int32_t s = 0; s < p->n_alive; s++) {
            cluster_rows(p, input, slice + s, &w, w.ids + s);
            trec_stack_divide(&w.stack, &means, w.centroids + s * stack_size(p));
            w.found[s] = (uint16_t)w.stack.n;
            total += (uint32_t)w.stack.n;
        }
        for (int32_t m = first_tile(p); m < p->out_c; m += TILE) {
            multiply(p, &w, slice, m);
            recover(p, &w, slice, m, output);
        }
    }
    finish_exact(p, &w, output);
    return total;
}
