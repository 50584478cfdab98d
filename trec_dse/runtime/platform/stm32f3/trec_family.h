/* STM32F3 (RM0316: F303): no cache, two prefetch buffers of 64 bits; APB1 at half the core's clock. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "board.h"

#define RCC 0x40021000u
#define RCC_AHBENR TREC_REGISTER(RCC + 0x14u)
#define RCC_APB2ENR TREC_REGISTER(RCC + 0x18u)
#define RCC_APB1ENR TREC_REGISTER(RCC + 0x1Cu)

#define TREC_GPIO 0x48000000u
#define TREC_GPIO_ENABLE RCC_AHBENR
#define TREC_GPIO_ENABLE_SHIFT 17u

#if TREC_USART_BASE == 0x40004400u /* USART2 */
#define TREC_USART_ENABLE RCC_APB1ENR
#define TREC_USART_ENABLE_BIT 17u
#elif TREC_USART_BASE == 0x40004800u /* USART3 */
#define TREC_USART_ENABLE RCC_APB1ENR
#define TREC_USART_ENABLE_BIT 18u
#else
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

#endif
