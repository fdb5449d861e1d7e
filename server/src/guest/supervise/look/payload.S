# The payload of `guest check`: enters long mode as a kernel does, takes an exception through a table of its own, says so on the serial
# port, and resets. Assemble: as --64 payload.S -o p.o; ld -Ttext 0x7c00 --oformat binary -e _start p.o -o payload.bin
.code16
.globl _start
_start:
    cli
    xor %ax,%ax
    mov %ax,%ds
    mov %ax,%es
    mov %ax,%ss
    mov $0x7c00,%sp
    ljmp $0,$1f
1:  # page tables at 0x1000: PML4, PDPT, PD with one page of 2 MiB
    mov $0x1000,%di
    xor %eax,%eax
    mov $0xc00,%cx
    cld
    rep stosl
    movl $0x2003,0x1000
    movl $0x3003,0x2000
    movl $0x83,0x3000
    in $0x92,%al
    or $2,%al
    and $0xfe,%al
    out %al,$0x92
    lgdt gdtr
    mov $0x20,%eax
    mov %eax,%cr4
    mov $0x1000,%eax
    mov %eax,%cr3
    mov $0xc0000080,%ecx
    rdmsr
    or $0x100,%eax
    wrmsr
    mov %cr0,%eax
    or $0x80000001,%eax
    mov %eax,%cr0
    ljmpl $8,$long
.code64
long:
    mov $16,%ax
    mov %ax,%ds
    mov %ax,%es
    mov %ax,%ss
    mov $0x7c00,%rsp
    # what a kernel does first and a half-working hypervisor does not: its own interrupt table, an exception, the time
    lidt idtr
    mov $0x500,%rdi
    xor %eax,%eax
    mov $0x40,%ecx
    rep stosl
    lea ud(%rip),%rax
    mov %ax,0x560
    movw $8,0x562
    movw $0x8e00,0x564
    ud2
back:
    lea text(%rip),%rsi
    mov $0x3f8,%dx
2:  lodsb
    test %al,%al
    jz 3f
    out %al,%dx
    jmp 2b
3:  mov $0xfe,%al
    out %al,$0x64
    hlt
    jmp 3b
ud: lea back(%rip),%rax
    mov %rax,(%rsp)
    iretq
text: .asciz "\r\ncordwainer: a guest runs here\r\n"
.align 8
gdt: .quad 0
    .quad 0x00209a0000000000
    .quad 0x0000920000000000
gdtr: .word 23
    .long gdt
idtr: .word 0x1ff
    .quad 0x500
.org 510
.word 0xaa55
