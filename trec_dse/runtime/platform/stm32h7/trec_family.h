/* STM32H7 with one core (RM0433: H743): three domains, buses at a half and peripherals at a quarter of the clock. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "board.h"

#define RCC 0x58024400u
#define RCC_AHB4ENR TREC_REGISTER(RCC + 0xE0u)
#define RCC_APB1LENR TREC_REGISTER(RCC + 0xE8u)

#define TREC_GPIO 0x58020000u
#define TREC_GPIO_ENABLE RCC_AHB4ENR
#define TREC_GPIO_ENABLE_SHIFT 0u

#if TREC_USART_BASE == 0x40004400u /* USART2 */
#define TREC_USART_ENABLE RCC_APB1LENR
#define TREC_USART_ENABLE_BIT 17u
#elif TREC_USART_BASE == 0x40004800u /* USART3 */
#define TREC_USART_ENABLE RCC_APB1LENR
#define TREC_USART_ENABLE_BIT 18u
#else
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

#endif
