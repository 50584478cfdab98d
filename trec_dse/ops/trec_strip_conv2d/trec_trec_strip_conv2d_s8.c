/* TREC int8 convolution on strips, with the two-step stack.
 *
 * All strips that some output uses are hashed and put into clusters, one group of channels after the other. Then,
 * output channel by output channel, every centroid is multiplied by every part of the kernel (one strip of weights),
 * and an output adds up the products that its strips' clusters name. A strip of padding alone is worth exactly nothing:
 * it belongs to no cluster, and the cluster behind the last one, whose products are zero, stands for it.
 */
#include "trec_trec_strip_conv2d_s8.h"

#include "trec_arch.h" /* defines: trec_dot_s8, trec_dot_s16_s8 */

enum { UNSEEN = 0xFFFF };

/* The scratch of one call, cut into its arrays: widest elements first, so that none needs padding. */
typedef struct {
    int32_t *sums;        /* (max_clusters, length), while clustering */
    int32_t *products;    /* (n_groups, parts, max_clusters + 1), after that: over sums */
    int16_t *centroids;   /* (n_groups, max_clusters, length) */
    uint16_t *counts;     /* (max_clusters) */
    uint16_t *found;      /* (n_groups), clusters of each group */
    uint16_t *reverse;    /* (2^hash_bits): signature -> cluster */
    uint16_t *signatures; /* (max_clusters) */
    uint8_t *clusters;    /* (n_groups, grid_h, grid_w): the cluster of each strip */
    int8_t *vector;       /* (length) */
} workspace;

static int32_t count_parts(const trec_trec_strip_conv2d *p)
{
    return p->window.kernel_h * (p->window.kernel_w / p->strip_w);
}

static int32_t count_wide(const trec_trec_strip_conv2d *p)
{
    const int32_t sums = p->max_clusters * p->length;
    const int32_t products = p->n_groups * count_parts(p) * (p->max_clusters + 1);
    return sums > products ? sums : products;
}

int32_t trec_trec_strip_conv2d_scratch_bytes(const trec_trec_strip_conv2d *p)
{
    const int32_t centroids = p->n_groups * p->max_clusters * p->length;
    const int32_t tables = 2 * p->max_clusters + p->n_groups + ((int32_t)1 << p->hash_bits);
    return 4 * count_wide(p) + 2 * (centroids + tables) + p->n_groups * p->grid_h * p->grid_w + p->length;
}

static workspace cut(const trec_trec_strip_conv2d *p, void *scratch)
{
    workspace w;
    w.sums = scratch;
    w.products = scratch;
    w.centroids = (int16_t *)(w.sums + count_wide(p));
    w.counts = (uint16_t *)(w.centroids + p->n_groups * p->max_clusters * p->length);
    w.found = w.counts + p->max_clusters;
    w.reverse = w.found + p->n_groups;
    w.signatures = w.reverse + ((int32_t)1 << p->hash_bits);
    w.clusters = (uint8_t *)(w.signatures + p->max_clusters);
    w.vector = (int8_t *)(w.clusters + p->n_groups * p->grid_h * p->grid_w);
    return w;
}

/* Whether a window of n_out, stride pixels apart, has a part at this place of its axis; parts are step pixels wide. */
static int is_used(int32_t place, int32_t kernel, int32_t step, int32_t stride, int32_t n_out)
{
    for (int32_t first = 0; first < kernel; first += step) {
        const int32_t window = place - first;
        if (window >= 0 && window % stride == 0 && window / stride < n_out) {
            return 1;
        }
    }
    return 0;
}

/* The vector (length) of a group of channels in the strip that starts at pixel (y, x): in place where it lies in one
 * piece, else copied to vector. input: (in_h, in_w, in_c) */
static const int8_t *find_vector(const trec_trec_strip_conv2d *p, const int8_t *input, int32_t y, int32_t x,
                                 int32_t group, int8_t *vector)
{
    const trec_window *w = &p->window;
    const int32_t depth = w->in_c / p->n_groups;
    const int8_t *pixel = input + (y * w->in_w + x) * w->in_c + group * depth;
    const int32_t is_inside = x >= 0 && x + p->strip_w <= w->in_w;
    if (is_inside && (p->n_groups == 1 || p->strip_w == 1)) {
        return pixel;
    }
    for (int32_t i = 0; i < p->strip_w; i++) {
        const int32_t is_image = x + i >= 0 && x + i < w->in_w;
        for (int32_t c = 0; c < depth; c++) {
            vector[i * depth + c] = is_image ? pixel[i * w->in_c + c] : (int8_t)p->in_zero;
        }
    }
    return vector;
}

/* Signature of a vector, first hash vector first. */
static uint32_t sign(const trec_trec_strip_conv2d *p, const int8_t *vector, int32_t group)
{
    const int8_t *hash = p->hash + group * p->hash_bits * p->length;
    const int32_t *thresholds = p->thresholds + group * p->hash_bits;
    uint32_t signature = 0;
    for (int32_t h = 0; h < p->hash_bits; h++) {
        const int32_t projection = trec_dot_s8(vector, hash + h * p->length, p->length);
        signature = signature << 1 | (projection > thresholds[h] ? 1u : 0u);
    }
    return signature;
}

/* The existing cluster whose signature differs in the fewest bits; the oldest on ties. */
static uint16_t nearest(const uint16_t *signatures, int32_t n, uint32_t signature)
{
    int32_t best = 0;
    int32_t best_distance = INT32_MAX;
    for (int32_t c = 0; c < n; c++) {
        int32_t distance = 0;
        for (uint32_t rest = signatures[c] ^ signature; rest != 0; rest &= rest - 1) {
            distance++;
        }
        if (distance < best_distance) {
            best = c;
            best_distance = distance;
        }
    }
    return (uint16_t)best;
}

/* The cluster of a vector, which it opens or joins; *n counts them. */
static uint8_t join(const trec_trec_strip_conv2d *p, const workspace *w, const int8_t *vector, int32_t group,
                    int32_t *n)
{
    const uint32_t signature = sign(p, vector, group);
    if (w->reverse[signature] == UNSEEN && *n < p->max_clusters) {
        for (int32_t k = 0; k < p->length; k++) {
            w->sums[*n * p->length + k] = 0;
        }
        w->counts[*n] = 0;
        w->signatures[*n] = (uint16_t)signature;
        w->reverse[signature] = (uint16_t)(*n)++;
    } else if (w->reverse[signature] == UNSEEN) {
        w->reverse[signature] = nearest(w->signatures, *n, signature);
    }
    const int32_t cluster = w->reverse[signature];
    int32_t *sums = w->sums + cluster * p->length;
    for (int32_t k = 0; k < p->length; k++) {
        sums[k] += vector[k];
    }
    w->counts[cluster]++;
    return (uint8_t)cluster;
}

/* Step one for one group: fills sums, counts and clusters: (grid_h, grid_w). Returns the number of clusters. */
static int32_t cluster_strips(const trec_trec_strip_conv2d *p, const int8_t *input, int32_t group, const workspace *w,
                              uint8_t *clusters)
{
    const trec_window *win = &p->window;
    int32_t n = 0;
    for (int32_t i = 0; i < (int32_t)1 << p->hash_bits; i++) {
        w->reverse[i] = UNSEEN;
    }
    for (int32_t r = 0; r < p->grid_h; r++) {
        const int32_t y = r - win->pad_h;
        const int32_t is_row_used = is_used(r, win->kernel_h, 1, win->stride_h, win->out_h);
        for (int32_t s = 0; s < p->grid_w; s++) {
            const int32_t x = s - win->pad_w;
            if (y < 0 || y >= win->in_h || x + p->strip_w <= 0 || x >= win->in_w) {
                clusters[r * p->grid_w + s] = (uint8_t)p->max_clusters;
            } else if (is_row_used && is_used(s, win->kernel_w, p->strip_w, win->stride_w, win->out_w)) {
                const int8_t *vector = find_vector(p, input, y, x, group, w->vector);
                clusters[r * p->grid_w + s] = join(p, w, vector, group, &n);
            }
        }
    }
    return n;
}

/* Step two: the mean of each cluster minus the zero point, with fraction_bits. centroids: (n, length) */
static void divide_sums(const trec_trec_strip_conv2d *p, const workspace *w, int32_t n, int16_t *centroids)
{
    const int32_t one = (int32_t)1 << p->fraction_bits;
    for (int32_t c = 0; c < n; c++) {
        const int32_t count = w->counts[c];
        for (int32_t k = 0; k < p->length; k++) {
            const int32_t sum = w->sums[c * p->length + k];
            centroids[c * p->length + k] = (int16_t)trec_divide((sum - count * p->in_zero) * one, count);
        }
    }
}

/* Fills products with every centroid times every part of kernel m. */
static void multiply(const trec_trec_strip_conv2d *p, const workspace *w, int32_t m)
{
    const int32_t parts = count_parts(p);
    const int8_t *kernel = p->weights + m * p->n_groups * parts * p->length;
    int32_t *products = w->products;
    for (int32_t group = 0; group < p->n_groups; group++) {
        const int16_t *centroids = w->centroids + group * p->max_clusters * p->length;
        for (int32_t part = 0; part < parts; part++) {
            for (int32_t c = 0; c < w->found[group]; c++) {
                products[c] = trec_dot_s16_s8(centroids + c * p->length, kernel, p->length);
            }
            products[p->max_clusters] = 0; /* padding */
            products += p->max_clusters + 1;
            kernel += p->length;
        }
    }
}

/* What the strips of one output add up to; clusters: of its first strip in the first group. */
static int32_t add_products(const trec_trec_strip_conv2d *p, const workspace *w, const uint8_t *clusters)
{
    const int32_t *products = w->products;
    int32_t sum = 0;
    for (int32_t group = 0; group < p->n_groups; group++) {
        const uint8_t *row = clusters + group * p->grid_h * p->grid_w;
        for (int32_t ky = 0; ky < p->window.kernel_h; ky++) {
            for (int32_t kx = 0; kx < p->window.kernel_w; kx += p->strip_w) {
                sum += products[row[kx]];
                products += p->max_clusters + 1;
            }
            row += p->grid_w;
        }
    }
    return sum;
}

uint32_t trec_trec_strip_conv2d_s8(const trec_trec_strip_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const workspace w = cut(p, scratch);
    const trec_window *win = &p->window;
    uint32_t total = 0;
    for (int32_t group = 0; group < p->n_groups; group++) {
        const int32_t n = cluster_strips(p, input, group, &w, w.clusters + group * p->grid_h * p->grid_w);
        divide_sums(p, &w, n, w.centroids + group * p->max_clusters * p->length);
        w.found[group] = (uint16_t)n;
        total += (uint32_t)n;
    }
    for (int32_t m = 0; m < p->out_c; m++) {
        const int32_t start = p->bias[m] * ((int32_t)1 << p->fraction_bits);
        multiply(p, &w, m);
        for (int32_t y = 0; y < win->out_h; y++) {
            const uint8_t *clusters = w.clusters + y * win->stride_h * p->grid_w;
            for (int32_t x = 0; x < win->out_w; x++) {
                const int32_t acc = start + add_products(p, &w, clusters + x * win->stride_w);
                output[(y * win->out_w + x) * p->out_c + m] = trec_requantize(&p->rescale, acc, m);
            }
        }
    }
    return total;
}
