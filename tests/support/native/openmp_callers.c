/* Calls back into Python from every thread of a team of OpenMP's. */
#include <omp.h>

/* Returns how many threads the team had. `callback` takes the GIL itself, as those of ctypes do. */
int call_from_team(int threads, void (*callback)(int))
{
    int team = 0;
#pragma omp parallel num_threads(threads)
    {
#pragma omp single
        team = omp_get_num_threads();
        callback(omp_get_thread_num());
    }
    return team;
}
