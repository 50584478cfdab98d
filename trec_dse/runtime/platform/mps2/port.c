/* Serial port of Arm's MPS2 boards as QEMU has them (AN385, AN386, AN500): the second engine that firmware is run on.
 * Registers: CMSDK APB UART, ARM DDI 0479, chapter 4.3. There are no clocks and no pins to set up. */
#include "trec_port.h"

#include "board.h"
#include "trec_core.h"

#define UART_DATA TREC_REGISTER(TREC_USART_BASE + 0x00u)
#define UART_STATE TREC_REGISTER(TREC_USART_BASE + 0x04u)
#define UART_STATE_TX_FULL (1u << 0)
#define UART_STATE_RX_FULL (1u << 1)
#define UART_CTRL TREC_REGISTER(TREC_USART_BASE + 0x08u)
#define UART_CTRL_TX (1u << 0)
#define UART_CTRL_RX (1u << 1)
#define UART_CTRL_RX_INTERRUPT (1u << 3)
#define UART_INTCLEAR TREC_REGISTER(TREC_USART_BASE + 0x0Cu)
#define UART_INTCLEAR_RX (1u << 1)
#define UART_BAUDDIV TREC_REGISTER(TREC_USART_BASE + 0x10u)

#define NVIC_ISER TREC_REGISTER(0xE000E100u)
#define NVIC_ICPR TREC_REGISTER(0xE000E280u)
#define NVIC_UART_RX (1u << 0) /* UART0 */

/* The interrupt is never taken, for the vector table has no entry: it only wakes the core. */
void trec_port_init(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
    UART_BAUDDIV = (TREC_USART_CLOCK_HZ + TREC_BAUD / 2u) / TREC_BAUD;
    UART_CTRL = UART_CTRL_TX | UART_CTRL_RX | UART_CTRL_RX_INTERRUPT;
    NVIC_ISER = NVIC_UART_RX;
}

/* QEMU looks after its line while the core sleeps; one that spun here would keep it from doing so. */
uint8_t trec_port_read(void)
{
    while (!(UART_STATE & UART_STATE_RX_FULL)) {
        __asm__ volatile("wfi" ::: "memory");
    }
    const uint8_t byte = (uint8_t)UART_DATA;
    UART_INTCLEAR = UART_INTCLEAR_RX;
    NVIC_ICPR = NVIC_UART_RX;
    return byte;
}

void trec_port_write(uint8_t byte)
{
    while (UART_STATE & UART_STATE_TX_FULL) {
    }
    UART_DATA = byte;
}

void trec_port_flush(void)
{
    while (UART_STATE & UART_STATE_TX_FULL) {
    }
}

#if __ARM_ARCH == 6
/* An emulator has no cycles; on the other cores the counter is there and stands still. */
uint32_t trec_port_cycles(void)
{
    return 0;
}
#endif

uint32_t trec_port_clock_hz(void)
{
    return TREC_CLOCK_HZ;
}
