/* Calls functions of the library for a process on another architecture, under an emulator: remote.py is the other side.

     remote LIBRARY

   First it writes a line for each instruction set, its name and whether it runs, and an empty line. A request on stdin
   is a Header, then the bytes of its arrays; the reply is the function's result, then the arrays. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 20, NAME = 32 };
typedef struct {
  char name[NAME];
  int64_t count;
  struct {
    int64_t is_array, value; /* an array's value is its number of bytes */
  } arguments[MOST];
} Header;

/* arm64 passes integers and pointers alike in registers and then in 8 bytes each on the stack, so that a function with
   fewer parameters can be called with more. */
typedef int64_t (*Function)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                            int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

static void transfer(size_t done, size_t size) {
  if (done != size) exit(ferror(stdin) || ferror(stdout));
}

static void answer(void *library, const Header *request) {
  int64_t a[MOST] = {0};
  for (int64_t i = 0; i < request->count; i++) {
    a[i] = request->arguments[i].value;
    if (!request->arguments[i].is_array) continue;
    size_t size = (size_t)a[i];
    void *data = malloc(size + 1);
    transfer(fread(data, 1, size, stdin), size);
    a[i] = (int64_t)(intptr_t)data;
  }
  Function call = (Function)dlsym(library, request->name);
  if (!call) exit(1);
  int64_t result = call(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14],
                        a[15], a[16], a[17], a[18], a[19]);
  fwrite(&result, sizeof result, 1, stdout);
  for (int64_t i = 0; i < request->count; i++) {
    if (!request->arguments[i].is_array) continue;
    size_t size = (size_t)request->arguments[i].value;
    transfer(fwrite((void *)(intptr_t)a[i], 1, size, stdout), size);
    free((void *)(intptr_t)a[i]);
  }
  fflush(stdout);
}

int main(int count, char **arguments) {
  void *library = count == 2 ? dlopen(arguments[1], RTLD_NOW) : NULL;
  if (!library) return fprintf(stderr, "%s\n", count == 2 ? dlerror() : "remote LIBRARY"), 1;
  const char *(*name)(int) = (const char *(*)(int))dlsym(library, "lfm_isa_name");
  int (*runs)(int) = (int (*)(int))dlsym(library, "lfm_isa_runs");
  for (int i = 0; name(i); i++) printf("%s %d\n", name(i), runs(i));
  printf("\n");
  fflush(stdout);
  for (Header request;;) {
    transfer(fread(&request, 1, sizeof request, stdin), sizeof request);
    answer(library, &request);
  }
}
