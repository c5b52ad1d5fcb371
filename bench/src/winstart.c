/* The service of bench/windows.py: its first act is to read the clock, then it appends that to the file it is given. */
#include <windows.h>

void start(void) {
    LARGE_INTEGER now;
    QueryPerformanceCounter(&now);
    const char *line = GetCommandLineA(), *file = line;
    for (; *line; line++)
        if (*line == ' ')
            file = line + 1;
    HANDLE out = CreateFileA(file, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, 0, NULL);
    DWORD written;
    WriteFile(out, &now, sizeof now, &written, NULL);
    CloseHandle(out);
    Sleep(INFINITE);
}
