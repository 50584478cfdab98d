/* What a platform provides: nothing else in the firmware knows the hardware. */
#ifndef TREC_PORT_H
#define TREC_PORT_H

#include <stdint.h>

/* Clocks, caches, serial line, cycle counter; called once, first. */
void trec_port_init(void);

/* Waits for the next byte from the host. */
uint8_t trec_port_read(void);

/* Waits until the byte can be taken. */
void trec_port_write(uint8_t byte);

/* Waits until the last byte written has left the chip. */
void trec_port_flush(void);

/* Core cycles modulo 2^32; always 0 on a core that cannot count them. */
uint32_t trec_port_cycles(void);

/* Core clock, by which cycles become seconds. */
uint32_t trec_port_clock_hz(void);

/* Most bytes of stack in use at one time since reset; 0 if unknown. */
uint32_t trec_port_stack_bytes(void);

/* Starts the firmware anew; does not return. */
void trec_port_reset(void);

#endif
