"""A program of 240 bytes that waits to be ended: the command of a pause container, and of an image without one.

It needs nothing of an image, not even a C library. As a container's first process it also does what an init must:
SIGTERM ends it, though the kernel gives a first process no default for signals, and orphans do not become zombies.

    rt_sigaction(SIGCHLD, SIG_IGN)              the kernel reaps
    rt_sigprocmask(SIG_BLOCK, SIGTERM|SIGINT)   a blocked signal is kept even for a first process
    while rt_sigtimedwait(SIGTERM|SIGINT) <= 0: pass
    exit_group(0)
"""

import struct
from typing import Final

#: Behind the code: struct sigaction {SIG_IGN, flags, restorer, mask}, and the set of SIGINT (bit 1) and SIGTERM (14).
_DATA: Final = struct.pack("<5Q", 1, 0, 0, 0, 1 << 1 | 1 << 14)

_X86_64: Final = bytes.fromhex(
    "488d3539000000"  # lea rsi, [rip+57]   the action
    "31d2"  # xor edx, edx
    "6a08 415a"  # push 8; pop r10          bytes in a set
    "6a11 5f"  # push 17; pop rdi           SIGCHLD
    "6a0d 58"  # push 13; pop rax           rt_sigaction
    "0f05"  # syscall
    "488d3544000000"  # lea rsi, [rip+68]   the set
    "31ff"  # xor edi, edi                  SIG_BLOCK
    "6a0e 58"  # push 14; pop rax           rt_sigprocmask
    "0f05"  # syscall
    "488d3d36000000"  # lea rdi, [rip+54]   the set
    "31f6"  # xor esi, esi
    "31c0 b080"  # xor eax, eax; mov al, 128  rt_sigtimedwait
    "0f05"  # syscall
    "85c0"  # test eax, eax
    "7eed"  # jle -19                       interrupted: again
    "31ff"  # xor edi, edi
    "31c0 b0e7"  # xor eax, eax; mov al, 231  exit_group
    "0f05"  # syscall
    "6690"  # nop                           the data is aligned to 8
)
_AARCH64: Final = struct.pack(
    "<20I",
    0x10000281,  # adr x1, +80              the action
    0xD2800002,  # mov x2, #0
    0xD2800103,  # mov x3, #8               bytes in a set
    0xD2800220,  # mov x0, #17              SIGCHLD
    0xD28010C8,  # mov x8, #134             rt_sigaction
    0xD4000001,  # svc #0
    0x100002C1,  # adr x1, +88              the set
    0xD2800000,  # mov x0, #0               SIG_BLOCK
    0xD28010E8,  # mov x8, #135             rt_sigprocmask
    0xD4000001,  # svc #0
    0x10000240,  # adr x0, +72              the set
    0xD2800001,  # mov x1, #0
    0xD2801128,  # mov x8, #137             rt_sigtimedwait
    0xD4000001,  # svc #0
    0x7100001F,  # cmp w0, #0
    0x54FFFF6D,  # b.le -20                 interrupted: again
    0xD2800000,  # mov x0, #0
    0xD2800BC8,  # mov x8, #94              exit_group
    0xD4000001,  # svc #0
    0xD503201F,  # nop                      the data is aligned to 8
)

#: By the machine's name, as uname(2) gives it: the number of its ELF files (elf(5), e_machine), and the code.
_MACHINES: Final = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}
_BASE, _HEADERS = 0x400000, 64 + 56


class NoWaiter(Exception):
    """There is no code for this kind of machine."""


def program(machine: str) -> bytes:
    """The executable for a kind of machine. Raises NoWaiter."""
    if machine not in _MACHINES:
        raise NoWaiter(f"containers wait and pause on {' and '.join(_MACHINES)} alone, and this machine is {machine}")
    number, code = _MACHINES[machine]
    size = _HEADERS + len(code) + len(_DATA)
    # elf(5): 64 bits, little-endian, version 1; then an executable with one segment, which is the whole file.
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH",
        b"\x7fELF", 2, 1, 1, 0, 0,
        2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + code + _DATA
