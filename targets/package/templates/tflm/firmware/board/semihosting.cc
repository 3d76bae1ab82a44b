// Made by edgeqwt.
// The C library's system calls, answered by a debugger or by QEMU (Arm semihosting). On a board of your own,
// take your board support package's in place of this file.
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace {

constexpr std::uintptr_t kWrite0 = 0x04;
constexpr std::uintptr_t kExitExtended = 0x20;
constexpr std::uintptr_t kApplicationExit = 0x20026;

void Semihost(std::uintptr_t operation, const void* argument) {
  register std::uintptr_t r0 __asm("r0") = operation;
  register const void* r1 __asm("r1") = argument;
  __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

}  // namespace

extern "C" {

extern char link_heap_start[], link_heap_end[];

int _write(int file, const char* text, int length);
int _read(int file, char* text, int length);
int _close(int file);
int _lseek(int file, int offset, int whence);
int _fstat(int file, struct stat* status);
int _isatty(int file);
int _getpid();
int _kill(int process, int signal);
void* _sbrk(std::ptrdiff_t size);
[[noreturn]] void _exit(int status);

int _write(int, const char* text, int length) {
  char part[64];
  int done = 0;
  while (done < length) {
    int count = 0;
    while (count < static_cast<int>(sizeof(part)) - 1 && done < length) {
      part[count++] = text[done++];
    }
    part[count] = '\0';
    Semihost(kWrite0, part);
  }
  return length;
}

int _read(int, char*, int) { return 0; }

int _close(int) { return -1; }

int _lseek(int, int, int) { return 0; }

int _fstat(int, struct stat* status) {
  status->st_mode = S_IFCHR;
  return 0;
}

int _isatty(int) { return 1; }

int _getpid() { return 1; }

int _kill(int, int) { return -1; }

void* _sbrk(std::ptrdiff_t size) {
  static char* end = link_heap_start;
  if (size > link_heap_end - end) {
    errno = ENOMEM;
    return reinterpret_cast<void*>(-1);
  }
  char* start = end;
  end += size;
  return start;
}

void _exit(int status) {
  const std::uintptr_t block[2] = {kApplicationExit, static_cast<std::uintptr_t>(status)};
  Semihost(kExitExtended, block);
  while (true) {
  }
}

}  // extern "C"
