/* STM32F7: caches of the core instead of a Flash accelerator, and the newer USART (RM0385, "USART registers"). */
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

/* The pins that lead to the debug probe, on the Nucleo-144. */
#if TREC_USART_BASE == USART3_BASE
enum { PORT = PORT_D, TX = 8, RX = 9 };
#else
#error "TREC_USART_BASE: add the pins of this USART here"
#endif

void trec_port_init(void)
{
    trec_core_enable_caches();
    trec_stm32_start_clock(TREC_HSE_CLOCK, FLASH_ACR_PREFETCH);
    trec_core_start_cycle_counter();
    trec_stm32_use_usart_pin(PORT, TX);
    trec_stm32_use_usart_pin(PORT, RX);
    trec_stm32_enable_usart();
    USART_BRR = USART_DIVIDER;
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

uint32_t trec_port_clock_hz(void)
{
    return TREC_CLOCK_HZ;
}
