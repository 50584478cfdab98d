/* What the STM32F4 and the STM32F7 have in common: clock tree, pins, addresses. */
#ifndef TREC_STM32_H
#define TREC_STM32_H

#include <stdint.h>

#include "board.h"
#include "trec_core.h"

#define FLASH_ACR_PREFETCH (1u << 8)

/* Addresses from the chapter "Memory map" of RM0386 (F4) and RM0385 (F7), which agree on these. */
#define USART2_BASE 0x40004400u
#define USART3_BASE 0x40004800u

#if TREC_USART_BASE == USART2_BASE
#define USART_ENABLE (1u << 17)
#elif TREC_USART_BASE == USART3_BASE
#define USART_ENABLE (1u << 18)
#else
#error "TREC_USART_BASE: add this USART's bit in RCC_APB1ENR here, and its pins in the platform's port.c"
#endif

#define USART_AF 7u /* USART1 to USART3, on every pin that can carry them */
#define USART_DIVIDER ((TREC_USART_CLOCK_HZ + TREC_BAUD / 2u) / TREC_BAUD)

enum { PORT_A, PORT_B, PORT_C, PORT_D };

/* What is connected to the oscillator pins. */
typedef enum { TREC_HSE_CRYSTAL, TREC_HSE_CLOCK } trec_stm32_hse;

/* Raises the core clock to TREC_CLOCK_HZ; flash_options: bits of FLASH_ACR beside the wait states. */
void trec_stm32_start_clock(trec_stm32_hse hse, uint32_t flash_options);

/* Hands a pin (port PORT_A ..., number 0 to 15) to the USART. */
void trec_stm32_use_usart_pin(uint32_t port, uint32_t pin);

/* Lets the clock reach the USART. */
void trec_stm32_enable_usart(void);

#endif
