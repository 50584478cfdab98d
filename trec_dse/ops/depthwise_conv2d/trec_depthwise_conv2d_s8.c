/* Depthwise int8 convolution: taps outside the image hold the zero point, so they add nothing and are skipped. */
#include "trec_depthwise_conv2d_s8.h"

#include "trec_arch.h"    /* defines: trec_depthwise_fours */
#include "trec_rescale.h" /* defines: trec_is_plain, trec_requantize */

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* Leaves those of `size` taps that lie between 0 and `end`, of which the first lies at `at`; both are moved on. */
static int32_t cut(int32_t size, int32_t end, int32_t *at, int32_t *first)
{
    *first = *at < 0 ? -*at : 0;
    *at += *first;
    return smaller(size - *first, end - *at);
}

static int32_t one_channel(const trec_taps *taps, const int8_t *x, const int8_t *weight, int32_t sum)
{
    for (int32_t row = 0; row < taps->rows; row++, x += taps->x_rest, weight += taps->w_rest) {
        for (int32_t i = 0; i < taps->columns; i++, x += taps->channels, weight += taps->channels) {
            sum += (*x - taps->x_zero) * *weight;
        }
    }
    return sum;
}

/* The outputs of the window whose first tap lies at (y, x), which may be outside the image. */
static void one_window(const trec_depthwise_conv2d *p, const int8_t *input, int32_t y, int32_t x, int8_t *output)
{
    const trec_window *w = &p->window;
    const trec_rescale rescale = p->rescale;
    int32_t first_row, first_column;
    trec_taps taps = {.bias = p->bias, .factors = rescale.factors, .zero = rescale.zero};
    taps.channels = w->in_c;
    taps.x_zero = p->in_zero;
    taps.rows = cut(w->kernel_h, w->in_h, &y, &first_row);
    taps.columns = cut(w->kernel_w, w->in_w, &x, &first_column);
    taps.x_rest = (w->in_w - taps.columns) * w->in_c;
    taps.w_rest = (w->kernel_w - taps.columns) * w->in_c;
    if (taps.rows > 0 && taps.columns > 0 && trec_is_plain(&rescale) != 0) {
        taps.n_fours = w->in_c / 4;
    }
    const int8_t *values = input + (y * w->in_w + x) * w->in_c;
    const int8_t *weights = p->weights + (first_row * w->kernel_w + first_column) * w->in_c;
    trec_depthwise_fours(&taps, values, weights, output);
    for (int32_t c = 4 * taps.n_fours; c < w->in_c; c++) {
        const int32_t sum = one_channel(&taps, values + c, weights + c, p->bias[c]);
        output[c] = trec_requantize(&rescale, sum, rescale.factors[c]);
    }
}

void trec_depthwise_conv2d_s8(const trec_depthwise_conv2d *p, const int8_t *input, int8_t *output)
{
    const trec_window *w = &p->window;
    for (int32_t y = 0; y < w->out_h; y++) {
        for (int32_t x = 0; x < w->out_w; x++, output += w->in_c) {
            one_window(p, input, y * w->stride_h - w->pad_h, x * w->stride_w - w->pad_w, output);
        }
    }
}
