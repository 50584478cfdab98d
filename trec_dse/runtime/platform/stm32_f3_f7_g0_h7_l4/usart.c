/* The newer of the two USARTs, and the LPUART, which differs in its divider only (RM0432, "USART" and "LPUART"). */
#include "trec_port.h"

#include "trec_stm32.h"

#define USART_CR1 TREC_REGISTER(TREC_USART_BASE + 0x00u)
#define USART_CR1_UE (1u << 0)
#define USART_CR1_RE (1u << 2)
#define USART_CR1_TE (1u << 3)
#define USART_BRR TREC_REGISTER(TREC_USART_BASE + 0x0Cu)
#define USART_ISR TREC_REGISTER(TREC_USART_BASE + 0x1Cu)
#define USART_ISR_ORE (1u << 3)
#define USART_ISR_RXNE (1u << 5)
#define USART_ISR_TC (1u << 6)
#define USART_ISR_TXE (1u << 7)
#define USART_ICR TREC_REGISTER(TREC_USART_BASE + 0x20u)
#define USART_ICR_ORECF (1u << 3)
#define USART_RDR TREC_REGISTER(TREC_USART_BASE + 0x24u)
#define USART_TDR TREC_REGISTER(TREC_USART_BASE + 0x28u)

#if defined(TREC_USART_IS_LOW_POWER)
/* Its clock is at most 4096 times the rate; above, it is divided by 16 first. */
#if TREC_USART_CLOCK_HZ / TREC_BAUD < 4096u
#define PRESCALED_HZ TREC_USART_CLOCK_HZ
#else
#define PRESCALER_16 7u
#define PRESCALED_HZ (TREC_USART_CLOCK_HZ / 16u)
#endif
#define LPUART_PRESC TREC_REGISTER(TREC_USART_BASE + 0x2Cu)
#define DIVIDER ((uint32_t)((256ull * PRESCALED_HZ + TREC_BAUD / 2u) / TREC_BAUD))
_Static_assert(DIVIDER >= 0x300u && DIVIDER <= 0xFFFFFu, "the LPUART cannot divide its clock to TREC_BAUD");
#else
#define DIVIDER TREC_USART_DIVIDER
#endif

void trec_stm32_start_usart(void)
{
#if defined(PRESCALER_16)
    LPUART_PRESC = PRESCALER_16;
#endif
    USART_BRR = DIVIDER;
    USART_CR1 = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE;
}

uint8_t trec_port_read(void)
{
    for (;;) {
        const uint32_t status = USART_ISR;
        if (status & USART_ISR_ORE) {
            USART_ICR = USART_ICR_ORECF; /* the byte before the overrun is still good */
        }
        if (status & USART_ISR_RXNE) {
            return (uint8_t)USART_RDR;
        }
    }
}

void trec_port_write(uint8_t byte)
{
    while (!(USART_ISR & USART_ISR_TXE)) {
    }
    USART_TDR = byte;
}

void trec_port_flush(void)
{
    while (!(USART_ISR & USART_ISR_TC)) {
    }
}
