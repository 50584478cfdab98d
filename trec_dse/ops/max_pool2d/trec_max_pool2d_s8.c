/* Maximum over a window; all channels of a pixel lie side by side, so they are compared in the inner loop. */
#include "trec_max_pool2d_s8.h"

#include "trec_arch.h" /* defines: trec_max_s8 */

static void maximum(const trec_window *w, const int8_t *input, int32_t top, int32_t left, int8_t *output)
{
    const int32_t bottom = top + w->kernel_h < w->in_h ? top + w->kernel_h : w->in_h;
    const int32_t right = left + w->kernel_w < w->in_w ? left + w->kernel_w : w->in_w;
    __builtin_memset(output, INT8_MIN, (size_t)w->in_c);
    for (int32_t y = top < 0 ? 0 : top; y < bottom; y++) {
        for (int32_t x = left < 0 ? 0 : left; x < right; x++) {
            trec_max_s8(output, input + (y * w->in_w + x) * w->in_c, w->in_c);
        }
    }
}

void trec_max_pool2d_s8(const trec_max_pool2d *p, const int8_t *input, int8_t *output)
{
    const trec_window *w = &p->window;
    for (int32_t y = 0; y < w->out_h; y++) {
        for (int32_t x = 0; x < w->out_w; x++) {
            maximum(w, input, y * w->stride_h - w->pad_h, x * w->stride_w - w->pad_w, output);
            output += w->in_c;
        }
    }
}
