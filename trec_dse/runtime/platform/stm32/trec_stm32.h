/* What every STM32 firmware does, whatever its family: clock, pins, serial port. */
#ifndef TREC_STM32_H
#define TREC_STM32_H

#include <stdint.h>

#include "board.h"
#include "trec_core.h"
#include "trec_family.h"

#define TREC_USART_DIVIDER ((TREC_USART_CLOCK_HZ + TREC_BAUD / 2u) / TREC_BAUD)
#define TREC_HSE_PATIENCE 100000u /* polls; a crystal starts within 2 ms, about 10000 of them */

/* Raises the core clock to TREC_CLOCK_HZ, with the Flash as the family can read it fastest. */
void trec_stm32_start_clock(void);

/* Switches the port on at TREC_BAUD; its clock and its pins are there. */
void trec_stm32_start_usart(void);

/* Hands a pin (port 0 for A ..., number 0 to 15) to the peripheral that its alternate function `function` leads to. */
void trec_stm32_use_pin(uint32_t port, uint32_t pin, uint32_t function);

#endif
