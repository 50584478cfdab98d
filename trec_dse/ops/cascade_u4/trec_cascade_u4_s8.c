/* Several 4-bit layers in one call, pixel by pixel: the last layer that has what it needs goes on. */
#include "trec_cascade_u4_s8.h"

#include "trec_nibbles.h" /* defines: trec_dot_levels, trec_level, trec_put_level, trec_shift_right, trec_weight */

/* A layer with the memory it works on. */
typedef struct {
    const trec_layer_u4 *layer;
    const uint8_t *source;
    uint8_t *sink;
    int32_t source_pixels; /* of a ring: behind so many it begins anew */
    int32_t sink_pixels;
    const uint8_t *weights;
    int32_t first_weight; /* of the first output channel */
    const int8_t *bias;
    int32_t zero; /* level outside the source */
} stage;

/* Where a window lies: rows and columns top, left ... bottom - 1, right - 1, parts of it outside the source. */
typedef struct {
    int32_t top, left, bottom, right;
} place;

static const trec_layer_u4 *layers_of(const trec_cascade_u4 *p)
{
    return (const trec_layer_u4 *)(const void *)p->layers;
}

static int32_t ring_bytes(const trec_layer_u4 *l)
{
    return (l->ring * l->out_c + 1) / 2;
}

int32_t trec_cascade_u4_scratch_bytes(const trec_cascade_u4 *p)
{
    int32_t bytes = 2 * p->n_layers;
    for (int32_t i = 0; i + 1 < p->n_layers; i++) {
        bytes += ring_bytes(layers_of(p) + i);
    }
    return bytes;
}

static place window_at(const trec_layer_u4 *l, int32_t position)
{
    const int32_t y = position / l->out_w;
    const int32_t top = y * l->stride_h - l->pad_h;
    const int32_t left = (position - y * l->out_w) * l->stride_w - l->pad_w;
    return (place){top, left, top + l->kernel_h, left + l->kernel_w};
}

/* Layer i, its ring behind those of the layers before it. */
static stage stage_of(const trec_cascade_u4 *p, int32_t i, const uint8_t *input, uint8_t *rings, uint8_t *output)
{
    const trec_layer_u4 *l = layers_of(p);
    stage s = {l, input, rings, l->in_h * l->in_w, l->ring, p->weights, 0, p->bias, p->in_zero};
    for (int32_t j = 0; j < i; j++, l++) {
        s.source = s.sink;
        s.source_pixels = l->ring;
        s.sink += ring_bytes(l);
        s.zero = 0;
        if (!l->is_pool) {
            s.first_weight += l->out_c * l->kernel_h * l->kernel_w * l->in_c;
            s.bias += l->out_c;
        }
    }
    s.layer = l;
    s.sink_pixels = l->ring;
    if (i + 1 == p->n_layers) {
        s.sink = output;
        s.sink_pixels = l->out_h * l->out_w;
    }
    return s;
}

/* Where the pixel (y, x) of the source stands in its ring. */
static int32_t slot_of(const stage *s, int32_t y, int32_t x)
{
    return (y * s->layer->in_w + x) % s->source_pixels;
}

/* What a pixel outside the source adds to an output channel. */
static int32_t outside(const stage *s, int32_t weight)
{
    int32_t sum = 0;
    for (int32_t c = 0; c < s->layer->in_c; c++) {
        sum += s->zero * trec_weight(s->weights, weight + c);
    }
    return sum;
}

/* What row y of a window adds to an output channel whose weights for it begin at `weight`. */
static int32_t add_row(const stage *s, const place *at, int32_t y, int32_t weight)
{
    const trec_layer_u4 *l = s->layer;
    const int32_t is_row = y >= 0 && y < l->in_h;
    int32_t sum = 0;
    int32_t slot = is_row ? slot_of(s, y, at->left < 0 ? 0 : at->left) : 0;
    for (int32_t x = at->left; x < at->right; x++, weight += l->in_c) {
        if (is_row && x >= 0 && x < l->in_w) {
            sum += trec_dot_levels(s->source, slot * l->in_c, s->weights, weight, l->in_c);
            slot = slot + 1 == s->source_pixels ? 0 : slot + 1;
        } else if (s->zero != 0) {
            sum += outside(s, weight);
        }
    }
    return sum;
}

/* sink: the pixel's first number */
static void convolve(const stage *s, const place *at, int32_t sink)
{
    const trec_layer_u4 *l = s->layer;
    int32_t weight = s->first_weight;
    for (int32_t c = 0; c < l->out_c; c++) {
        int32_t sum = s->bias[c] * (1 << l->bias_shift);
        for (int32_t y = at->top; y < at->bottom; y++, weight += l->kernel_w * l->in_c) {
            sum += add_row(s, at, y, weight);
        }
        trec_put_level(s->sink, sink + c, trec_clamp(trec_shift_right(sum, l->shift), 0, 15));
    }
}

static void pool(const stage *s, const place *at, int32_t sink)
{
    const trec_layer_u4 *l = s->layer;
    const int32_t bottom = at->bottom < l->in_h ? at->bottom : l->in_h;
    const int32_t right = at->right < l->in_w ? at->right : l->in_w;
    for (int32_t c = 0; c < l->out_c; c++) {
        int32_t best = 0;
        for (int32_t y = at->top < 0 ? 0 : at->top; y < bottom; y++) {
            for (int32_t x = at->left < 0 ? 0 : at->left; x < right; x++) {
                const int32_t level = trec_level(s->source, slot_of(s, y, x) * l->in_c + c);
                best = level > best ? level : best;
            }
        }
        trec_put_level(s->sink, sink + c, best);
    }
}

/* Whether layer i, which has written done[i] pixels, can write another. */
static int32_t is_ready(const trec_layer_u4 *layers, const uint16_t *done, int32_t i)
{
    const trec_layer_u4 *l = layers + i;
    if (done[i] == l->out_h * l->out_w) {
        return 0;
    }
    const place at = window_at(l, done[i]);
    const int32_t last_y = (at.bottom < l->in_h ? at.bottom : l->in_h) - 1;
    const int32_t last_x = (at.right < l->in_w ? at.right : l->in_w) - 1;
    return i == 0 || done[i - 1] > last_y * l->in_w + last_x;
}

void trec_cascade_u4_s8(const trec_cascade_u4 *p, const int8_t *input, void *scratch, int8_t *output)
{
    uint16_t *done = scratch;
    uint8_t *rings = (uint8_t *)(done + p->n_layers);
    __builtin_memset(done, 0, (size_t)p->n_layers * sizeof *done);
    for (int32_t i = p->n_layers - 1; i >= 0;) {
        if (!is_ready(layers_of(p), done, i)) {
            i--;
            continue;
        }
        const stage s = stage_of(p, i, (const uint8_t *)input, rings, (uint8_t *)output);
        const place at = window_at(s.layer, done[i]);
        const int32_t sink = done[i] % s.sink_pixels * s.layer->out_c;
        if (s.layer->is_pool) {
            pool(&s, &at, sink);
        } else {
            convolve(&s, &at, sink);
        }
        done[i]++;
        i = p->n_layers - 1;
    }
}
