/* The calls of a library that is linked where the build found it, else looked up at run time.
 *
 * ZARRS_LIBRARY(CALLS, names of the shared library...) gives a pointer zarrs_NAME to each call, and
 * zarrs_load_library(), which returns whether the library and all of its calls are there.
 * CALLS(CALL) lists them as CALL(result, name, arguments). There is one library to a module.
 */
#ifndef ZARRS_DYNAMIC_H
#define ZARRS_DYNAMIC_H

#include <stddef.h>

#ifdef ZARRS_LINKED
#define ZARRS_CALL(result, name, arguments) static result(*const zarrs_##name) arguments = name;
#define ZARRS_LIBRARY(calls, ...)                                                                 \
    calls(ZARRS_CALL)                                                                             \
    static int zarrs_load_library(void) { return 1; }
#else
#include <dlfcn.h>

#define ZARRS_CALL(result, name, arguments) static result(*zarrs_##name) arguments;
/* ISO C knows no conversion from object to function pointers; POSIX requires this one to work. */
#define ZARRS_FIND(result, name, arguments)                                                       \
    *(void **)&zarrs_##name = dlsym(library, #name);                                              \
    if (!zarrs_##name)                                                                            \
        return 0;
#define ZARRS_LIBRARY(calls, ...)                                                                 \
    calls(ZARRS_CALL)                                                                             \
    static int zarrs_load_library(void)                                                           \
    {                                                                                             \
        const char *const names[] = {__VA_ARGS__, NULL};                                          \
        void *library = NULL;                                                                     \
        for (int k = 0; !library && names[k]; k++)                                                \
            library = dlopen(names[k], RTLD_NOW | RTLD_LOCAL);                                    \
        if (!library)                                                                             \
            return 0;                                                                             \
        calls(ZARRS_FIND)                                                                         \
        return 1;                                                                                 \
    }
#endif

#endif
