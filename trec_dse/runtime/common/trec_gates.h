/* What the recurrent kernels share: functions between the entries of a table. */
#ifndef TREC_GATES_H
#define TREC_GATES_H

#include "trec_types.h"

/* The value at a place between two entries of a table, entries 2^7 apart, rounded; the last one has one behind it. */
static inline int32_t trec_interpolate(const int16_t *table, int32_t at)
{
    const int16_t *low = table + (at >> 7);
    return low[0] + (((low[1] - low[0]) * (at & 127) + 64) >> 7);
}

#endif
