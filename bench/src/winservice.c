// Starts and stops a service of Windows so many times, and prints for each how many microseconds StartServiceW took. It
// returns when the new process has called its dispatcher (MSDN: StartServiceCtrlDispatcherW), so that this is the most that the
// time from the start of the process to that call can have been; the making of the process is in it.
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

static SERVICE_STATUS wait_for(SC_HANDLE service, DWORD state) {
    SERVICE_STATUS status = {0};
    for (int i = 0; i < 6000; i++) {
        if (!QueryServiceStatus(service, &status) || status.dwCurrentState == state) {
            return status;
        }
        Sleep(5);
    }
    fprintf(stderr, "the service is not in state %lu after 30 s\n", state);
    exit(1);
}

int wmain(int argc, wchar_t **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: winservice NAME TIMES\n");
        return 2;
    }
    SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
    SC_HANDLE service = manager ? OpenServiceW(manager, argv[1], SERVICE_ALL_ACCESS) : NULL;
    if (!service) {
        fprintf(stderr, "error %lu\n", GetLastError());
        return 1;
    }
    LARGE_INTEGER frequency, begin, end;
    QueryPerformanceFrequency(&frequency);
    for (long n = wcstol(argv[2], NULL, 10); n > 0; n--) {
        SERVICE_STATUS status;
        QueryPerformanceCounter(&begin);
        if (!StartServiceW(service, 0, NULL)) {
            fprintf(stderr, "StartService: error %lu\n", GetLastError());
            return 1;
        }
        QueryPerformanceCounter(&end);
        printf("%lld\n", (end.QuadPart - begin.QuadPart) * 1000000 / frequency.QuadPart);
        wait_for(service, SERVICE_RUNNING);
        if (!ControlService(service, SERVICE_CONTROL_STOP, &status)) {
            fprintf(stderr, "ControlService: error %lu\n", GetLastError());
            return 1;
        }
        wait_for(service, SERVICE_STOPPED);
    }
    return 0;
}
