/* STM32L4+ (RM0432: L4R5): accelerated Flash, boost mode above 80 MHz, some pins with a supply of their own. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "board.h"

#define RCC 0x40021000u
#define RCC_AHB2ENR TREC_REGISTER(RCC + 0x4Cu)
#define RCC_APB1ENR1 TREC_REGISTER(RCC + 0x58u)
#define RCC_APB1ENR2 TREC_REGISTER(RCC + 0x5Cu)

#define TREC_GPIO 0x48000000u
#define TREC_GPIO_ENABLE RCC_AHB2ENR
#define TREC_GPIO_ENABLE_SHIFT 0u

#if TREC_USART_BASE == 0x40004400u /* USART2 */
#define TREC_USART_ENABLE RCC_APB1ENR1
#define TREC_USART_ENABLE_BIT 17u
#elif TREC_USART_BASE == 0x40008000u /* LPUART1 */
#define TREC_USART_ENABLE RCC_APB1ENR2
#define TREC_USART_ENABLE_BIT 0u
#define TREC_USART_IS_LOW_POWER
#else
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

#endif
