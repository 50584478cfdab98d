/* What every Cortex-M has beside its chip's own peripherals. */
#ifndef TREC_CORE_H
#define TREC_CORE_H

#include <stdint.h>

#define TREC_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Starts what trec_port_cycles() reads. */
void trec_core_start_cycle_counter(void);

/* Instruction and data cache, for cores that have them. */
void trec_core_enable_caches(void);

#endif
