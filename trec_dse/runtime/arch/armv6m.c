/* The inner loops of products on the Cortex-M0+ and M0; other cores have theirs in armv7em_dsp.h, scalar.h or portable.h. */
#if defined(__ARM_ARCH_6M__) && !defined(TREC_PORTABLE)

#define SAVE                                                                                                           \
    "push {r4-r7, lr}\n"                                                                                               \
    "mov r4, r8\n"                                                                                                     \
    "mov r5, r9\n"                                                                                                     \
    "mov r6, r10\n"                                                                                                    \
    "mov r7, r11\n"                                                                                                    \
    "push {r4-r7}\n"
#define RESTORE                                                                                                        \
    "pop {r4-r7}\n"                                                                                                    \
    "mov r8, r4\n"                                                                                                     \
    "mov r9, r5\n"                                                                                                     \
    "mov r10, r6\n"                                                                                                    \
    "mov r11, r7\n"                                                                                                    \
    "pop {r4-r7, pc}\n"

/* trec_multiply: two rows with two kernels at a time. The upper registers can be added to and no more, so that they hold
 * the sums.
 *
 * r0 block, r1 a product, r2-r5 a word of the kernels taken apart, r6 and r7 a pair of a row, r8 and r9 sums of the first
 * row, r10 and r11 of the second, r12 kernel, lr end of the kernel. The stack holds
 *     0 kernels left   4 step   8 kernel   12 bytes of a kernel   16 sums   20 block   24 whether two rows are done
 */
#define ROW(at, first, second)                                                                                         \
    "ldr r6, [r0, #" #at "]\n"                                                                                         \
    "sxth r7, r6\n"                                                                                                    \
    "asrs r6, r6, #16\n"                                                                                               \
    "mov r1, r7\n"                                                                                                     \
    "muls r1, r3, r1\n"                                                                                                \
    "add " #first ", r1\n"                                                                                             \
    "muls r7, r4, r7\n"                                                                                                \
    "add " #second ", r7\n"                                                                                            \
    "mov r1, r6\n"                                                                                                     \
    "muls r1, r5, r1\n"                                                                                                \
    "add " #first ", r1\n"                                                                                             \
    "muls r6, r2, r6\n"                                                                                                \
    "add " #second ", r6\n"

__asm__(".syntax unified\n"
        ".section .text.trec_multiply, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_multiply\n"
        ".type trec_multiply, %function\n"
        ".thumb_func\n"
        "trec_multiply:\n" SAVE "sub sp, #28\n"
        "str r2, [sp, #16]\n"
        "str r0, [sp, #20]\n"
        "ldm r1!, {r2, r3, r4, r5}\n" /* first, step, count, n_pairs */
        "lsls r5, r5, #2\n"
        "movs r6, #0\n"
        "str r4, [sp, #0]\n"
        "str r3, [sp, #4]\n"
        "str r2, [sp, #8]\n"
        "str r5, [sp, #12]\n"
        "str r6, [sp, #24]\n"
        "cmp r4, #0\n"
        "ble 4f\n"
        "1:\n"
        "ldr r1, [sp, #16]\n"
        "ldr r2, [r1, #0]\n"
        "ldr r3, [r1, #16]\n"
        "ldr r4, [r1, #4]\n"
        "ldr r5, [r1, #20]\n"
        "mov r8, r2\n"
        "mov r9, r3\n"
        "mov r10, r4\n"
        "mov r11, r5\n"
        "ldr r1, [sp, #8]\n"
        "ldr r2, [sp, #12]\n"
        "mov r12, r1\n"
        "adds r1, r1, r2\n"
        "mov lr, r1\n"
        "2:\n"
        "mov r1, r12\n"
        "ldm r1!, {r2}\n"
        "mov r12, r1\n"
        "sxtb r3, r2\n"
        "lsls r4, r2, #16\n"
        "asrs r4, r4, #24\n"
        "lsls r5, r2, #8\n"
        "asrs r5, r5, #24\n"
        "asrs r2, r2, #24\n" ROW(0, r8, r9) ROW(4, r10, r11) "adds r0, r0, #16\n"
        "cmp r12, lr\n"
        "bne 2b\n"
        "ldr r1, [sp, #16]\n"
        "mov r2, r8\n"
        "mov r3, r9\n"
        "mov r4, r10\n"
        "mov r5, r11\n"
        "str r2, [r1, #0]\n"
        "str r3, [r1, #16]\n"
        "str r4, [r1, #4]\n"
        "str r5, [r1, #20]\n"
        "adds r1, r1, #8\n"
        "ldr r0, [sp, #20]\n"
        "ldr r2, [sp, #24]\n"
        "movs r3, #1\n"
        "eors r3, r2\n"
        "str r3, [sp, #24]\n"
        "bne 3f\n" /* the other two rows of these kernels */
        "adds r1, r1, #16\n"
        "str r1, [sp, #16]\n"
        "ldr r1, [sp, #8]\n"
        "ldr r2, [sp, #4]\n"
        "ldr r3, [sp, #0]\n"
        "adds r1, r1, r2\n"
        "str r1, [sp, #8]\n"
        "subs r3, r3, #1\n"
        "str r3, [sp, #0]\n"
        "bne 1b\n"
        "b 4f\n"
        "3:\n"
        "str r1, [sp, #16]\n"
        "adds r0, r0, #8\n"
        "b 1b\n"
        "4:\n"
        "add sp, #28\n" RESTORE
        ".size trec_multiply, . - trec_multiply\n"
        ".text\n");

/* trec_dot_1x4: an element a turn, named from the ends of all five rows, backwards, so that one number counts.
 *
 * r0 less the elements left, r1 end of x, r2 and r3 ends of two kernels, r4 and r5 their sums, r6 an element of x, r7 of a
 * kernel, r8 and r9 the other two sums, r10 and r11 ends of their kernels
 */
__asm__(".section .text.trec_dot_1x4, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_dot_1x4\n"
        ".type trec_dot_1x4, %function\n"
        ".thumb_func\n"
        "trec_dot_1x4:\n" SAVE "ldr r7, [sp, #36]\n" /* sums */
        "mov lr, r7\n"
        "ldm r7!, {r4, r5, r6}\n"
        "mov r8, r6\n"
        "ldr r6, [r7]\n"
        "mov r9, r6\n"
        "mov r12, r2\n"
        "adds r6, r0, r3\n" /* end of x */
        "adds r2, r1, r3\n" /* end of the first kernel */
        "rsbs r0, r3, #0\n"
        "mov r1, r6\n"
        "mov r3, r2\n"
        "add r3, r12\n"
        "mov r7, r3\n"
        "add r7, r12\n"
        "mov r10, r7\n"
        "add r7, r12\n"
        "mov r11, r7\n"
        "cmp r0, #0\n"
        "beq 2f\n"
        "1:\n"
        "ldrsb r6, [r1, r0]\n"
        "ldrsb r7, [r2, r0]\n"
        "muls r7, r6, r7\n"
        "adds r4, r4, r7\n"
        "ldrsb r7, [r3, r0]\n"
        "muls r7, r6, r7\n"
        "adds r5, r5, r7\n"
        "mov r7, r10\n"
        "ldrsb r7, [r7, r0]\n"
        "muls r7, r6, r7\n"
        "add r8, r7\n"
        "mov r7, r11\n"
        "ldrsb r7, [r7, r0]\n"
        "muls r7, r6, r7\n"
        "add r9, r7\n"
        "adds r0, r0, #1\n"
        "bne 1b\n"
        "2:\n"
        "mov r0, lr\n"
        "mov r6, r8\n"
        "mov r7, r9\n"
        "stm r0!, {r4, r5, r6, r7}\n" RESTORE
        ".size trec_dot_1x4, . - trec_dot_1x4\n"
        ".text\n");

#endif
