/* The protocol over standard input and output, so that it can be tested without a board. */
#include <stdio.h>
#include <stdlib.h>

#include "trec_port.h"

void trec_port_init(void) {}

uint8_t trec_port_read(void)
{
    const int byte = getchar();
    if (byte == EOF) {
        exit(0);
    }
    return (uint8_t)byte;
}

void trec_port_write(uint8_t byte)
{
    (void)putchar(byte);
}

void trec_port_flush(void)
{
    (void)fflush(stdout);
}

uint32_t trec_port_cycles(void)
{
    return 0;
}

uint32_t trec_port_clock_hz(void)
{
    return 0;
}

uint32_t trec_port_stack_bytes(void)
{
    return 0;
}

void trec_port_reset(void)
{
    exit(0);
}
