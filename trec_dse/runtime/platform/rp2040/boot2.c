/* The second boot stage of the RP2040: lets the core read its serial Flash as memory, then starts the program.
 *
 * The boot ROM copies the Flash's first 256 bytes to the end of the SRAM, compares the checksum in the last four of them
 * (which the link leaves open; see rp2040_image.py) and runs them from there. So this is one function without data
 * whose address matters, and it calls none. For a W25Q16JV, the Flash on the Pico, and others with the same commands:
 * reads go over four lines, and after one with the mode byte A0h the next ones come without a command (its data sheet,
 * "Fast Read Quad I/O"). Registers: RP2040 Datasheet, 2.6.3 (XIP), 2.19.6.4 (pads), 4.10 (SSI).
 */
#include <stdint.h>

#include "trec_core.h"

#if !defined(__clang__)
#pragma GCC optimize("Os") /* 252 bytes are all there is */
#endif

typedef volatile uint32_t *registers;

#define PADS_QSPI 0x40020000u
#define PADS_SCLK 1 /* in words, as all that follow */
#define PADS_SCLK_FAST (2u << 4 | 1u << 0) /* 8 mA, fast edges */
#define PADS_SD 2
#define PADS_SD_SCHMITT (1u << 1) /* a filter that delays what comes in */

#define SSI 0x18000000u
#define SSI_CTRLR0 0
#define SSI_CTRLR0_BYTES (7u << 16)                        /* both directions at once, one line each */
#define SSI_CTRLR0_QUAD (2u << 21 | 31u << 16 | 3u << 8) /* four lines; send, then receive 32 bits */
#define SSI_CTRLR1 1
#define SSI_SSIENR 2
#define SSI_SER 4
#define SSI_BAUDR 5
#define SSI_BAUDR_HALF 2u /* of the core's clock */
#define SSI_SR 10
#define SSI_SR_BUSY (1u << 0)
#define SSI_SR_TFE (1u << 2)
#define SSI_DR0 24
#define SSI_RX_SAMPLE_DLY 60
#define SSI_SPI_CTRLR0 61
#define SPI_ADDRESS_AND_MODE (8u << 2) /* in fours: 24 + 8 bits */
#define SPI_WAITS_4 (4u << 11)
#define SPI_COMMAND_ON_ONE_LINE (2u << 8 | 1u << 0)
#define SPI_NO_COMMAND (2u << 0)
#define SPI_MODE_BYTE(mode) ((uint32_t)(mode) << 24)

#define FLASH_WRITE_STATUS 0x01u
#define FLASH_READ_STATUS 0x05u
#define FLASH_STATUS_BUSY 1u
#define FLASH_WRITE_ENABLE 0x06u
#define FLASH_READ_STATUS_2 0x35u
#define FLASH_STATUS_2_QUAD 2u
#define FLASH_READ_QUAD 0xEBu
#define FLASH_GO_ON 0xA0u /* the mode byte after which reads need no command */

#define PROGRAM 0x10000100u /* its vector table */
#define SCB_VTOR TREC_REGISTER(0xE000ED08u)

#define INLINE static inline __attribute__((always_inline))

void trec_boot2(void);

/* Registers from one address on; the compiler does not see which, or each of them would take an address of its own. */
INLINE registers at(uint32_t address)
{
    __asm__ volatile("" : "+r"(address));
    return (registers)(uintptr_t)address;
}

INLINE void wait_until_sent(registers ssi)
{
    while ((ssi[SSI_SR] & (SSI_SR_TFE | SSI_SR_BUSY)) != SSI_SR_TFE) {
    }
}

INLINE uint32_t ask_flash(registers ssi, uint32_t command)
{
    ssi[SSI_DR0] = command;
    ssi[SSI_DR0] = 0;
    wait_until_sent(ssi);
    (void)ssi[SSI_DR0];
    return ssi[SSI_DR0];
}

/* The Pico's Flash leaves its factory with four lines enabled; others of the same kind may not. */
INLINE void enable_four_lines(registers ssi)
{
    ssi[SSI_CTRLR0] = SSI_CTRLR0_BYTES;
    ssi[SSI_SSIENR] = 1;
    if (!(ask_flash(ssi, FLASH_READ_STATUS_2) & FLASH_STATUS_2_QUAD)) {
        ssi[SSI_DR0] = FLASH_WRITE_ENABLE;
        wait_until_sent(ssi);
        (void)ssi[SSI_DR0];
        ssi[SSI_DR0] = FLASH_WRITE_STATUS;
        ssi[SSI_DR0] = 0;
        ssi[SSI_DR0] = FLASH_STATUS_2_QUAD;
        wait_until_sent(ssi);
        (void)ssi[SSI_DR0];
        (void)ssi[SSI_DR0];
        (void)ssi[SSI_DR0];
        while (ask_flash(ssi, FLASH_READ_STATUS) & FLASH_STATUS_BUSY) {
        }
    }
    ssi[SSI_SSIENR] = 0;
}

INLINE void read_without_commands(registers ssi)
{
    ssi[SSI_CTRLR0] = SSI_CTRLR0_QUAD;
    ssi[SSI_CTRLR1] = 0;
    ssi[SSI_SPI_CTRLR0] = SPI_ADDRESS_AND_MODE | SPI_WAITS_4 | SPI_COMMAND_ON_ONE_LINE;
    ssi[SSI_SSIENR] = 1;
    ssi[SSI_DR0] = FLASH_READ_QUAD;
    ssi[SSI_DR0] = FLASH_GO_ON; /* of address 0; what it reads does not matter */
    wait_until_sent(ssi);
    ssi[SSI_SSIENR] = 0;
    ssi[SSI_SPI_CTRLR0] = SPI_MODE_BYTE(FLASH_GO_ON) | SPI_ADDRESS_AND_MODE | SPI_WAITS_4 | SPI_NO_COMMAND;
    ssi[SSI_SSIENR] = 1;
}

__attribute__((section(".boot2"), used)) void trec_boot2(void)
{
    const registers pads = at(PADS_QSPI), ssi = at(SSI);
    pads[PADS_SCLK] = PADS_SCLK_FAST;
    const uint32_t data = pads[PADS_SD] & ~PADS_SD_SCHMITT;
    pads[PADS_SD] = data;
    pads[PADS_SD + 1] = data;
    pads[PADS_SD + 2] = data;
    pads[PADS_SD + 3] = data;
    ssi[SSI_SSIENR] = 0;
    ssi[SSI_SER] = 1;
    ssi[SSI_BAUDR] = SSI_BAUDR_HALF;
    ssi[SSI_RX_SAMPLE_DLY] = 1;
    enable_four_lines(ssi);
    read_without_commands(ssi);
    const registers vectors = at(PROGRAM);
    SCB_VTOR = PROGRAM;
    __asm__ volatile("msr msp, %0\n\tbx %1" : : "r"(vectors[0]), "r"(vectors[1]));
    __builtin_unreachable();
}
