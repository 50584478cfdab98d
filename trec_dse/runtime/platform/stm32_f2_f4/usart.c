/* The older of the two USARTs: one data register for both directions (RM0033 and RM0386, "USART registers"). */
#include "trec_port.h"

#include "trec_stm32.h"

#define USART_SR TREC_REGISTER(TREC_USART_BASE + 0x00u)
#define USART_SR_ORE (1u << 3)
#define USART_SR_RXNE (1u << 5)
#define USART_SR_TC (1u << 6)
#define USART_SR_TXE (1u << 7)
#define USART_DR TREC_REGISTER(TREC_USART_BASE + 0x04u)
#define USART_BRR TREC_REGISTER(TREC_USART_BASE + 0x08u)
#define USART_CR1 TREC_REGISTER(TREC_USART_BASE + 0x0Cu)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_CR1_UE (1u << 13)

void trec_stm32_start_usart(void)
{
    USART_BRR = TREC_USART_DIVIDER;
    USART_CR1 = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE;
}

uint8_t trec_port_read(void)
{
    for (;;) {
        const uint32_t status = USART_SR;
        if (status & USART_SR_RXNE) {
            return (uint8_t)USART_DR;
        }
        if (status & USART_SR_ORE) {
            (void)USART_DR; /* reading SR, then DR, ends an overrun */
        }
    }
}

void trec_port_write(uint8_t byte)
{
    while (!(USART_SR & USART_SR_TXE)) {
    }
    USART_DR = byte;
}

void trec_port_flush(void)
{
    while (!(USART_SR & USART_SR_TC)) {
    }
}
