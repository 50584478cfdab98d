/* Addresses that the F2, the F4 and the F7 share: chapter "Memory map" of RM0033, RM0386 and RM0385. */
#ifndef TREC_BUSES_H
#define TREC_BUSES_H

#include "board.h"

#define RCC 0x40023800u
#define RCC_AHB1ENR TREC_REGISTER(RCC + 0x30u)
#define RCC_APB1ENR TREC_REGISTER(RCC + 0x40u)
#define RCC_APB2ENR TREC_REGISTER(RCC + 0x44u)

#define TREC_GPIO 0x40020000u
#define TREC_GPIO_ENABLE RCC_AHB1ENR
#define TREC_GPIO_ENABLE_SHIFT 0u

/* APB1 runs at a quarter of the core's clock, APB2 at half of it: see clock.c. */
#if TREC_USART_BASE == 0x40011000u /* USART1 */
#define TREC_USART_ENABLE RCC_APB2ENR
#define TREC_USART_ENABLE_BIT 4u
#define TREC_USART_SLOWER 2u
#elif TREC_USART_BASE == 0x40004400u /* USART2 */
#define TREC_USART_ENABLE RCC_APB1ENR
#define TREC_USART_ENABLE_BIT 17u
#define TREC_USART_SLOWER 4u
#elif TREC_USART_BASE == 0x40004800u /* USART3 */
#define TREC_USART_ENABLE RCC_APB1ENR
#define TREC_USART_ENABLE_BIT 18u
#define TREC_USART_SLOWER 4u
#elif TREC_USART_BASE == 0x40011400u /* USART6 */
#define TREC_USART_ENABLE RCC_APB2ENR
#define TREC_USART_ENABLE_BIT 5u
#define TREC_USART_SLOWER 2u
#else
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

#endif
