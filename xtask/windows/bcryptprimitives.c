/* Wine 8 has no bcryptprimitives.dll, from which Rust's standard library takes its random numbers. This one asks the
   function that Wine has for the same. Real Windows has its own. */
#include <windows.h>

#define MOST 0x40000000u

BOOLEAN NTAPI SystemFunction036(PVOID into, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE into, SIZE_T length)
{
    SIZE_T done = 0;
    while (done < length) {
        ULONG piece = length - done < MOST ? (ULONG)(length - done) : MOST;
        if (!SystemFunction036(into + done, piece))
            return FALSE;
        done += piece;
    }
    return TRUE;
}
