/* Whether a pin tells an instrument when the network runs. In this firmware none does; `export --marker` and the energy
 * mode of the text commands put another file here. */
#ifndef TREC_MARKER_H
#define TREC_MARKER_H

#include <stdint.h>

static inline void trec_mark(uint32_t level)
{
    (void)level;
}

#endif
