/* STM32G0 (RM0444): Cortex-M0+ with two cached lines of 64 bits in front of its Flash. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "board.h"

#define RCC 0x40021000u
#define RCC_IOPENR TREC_REGISTER(RCC + 0x34u)
#define RCC_APBENR1 TREC_REGISTER(RCC + 0x3Cu)

#define TREC_GPIO 0x50000000u
#define TREC_GPIO_ENABLE RCC_IOPENR
#define TREC_GPIO_ENABLE_SHIFT 0u

#if TREC_USART_BASE == 0x40004400u /* USART2 */
#define TREC_USART_ENABLE RCC_APBENR1
#define TREC_USART_ENABLE_BIT 17u
#else
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

#endif
