#include "launch/stop_signal.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <initializer_list>

#include "parallel/watchdog.h"

namespace witan {
namespace {

constexpr double kGraceSeconds = 10.0;
volatile std::sig_atomic_t received = 0;
bool under_mpirun = false;

void on_signal(int signal) {
  if (received != 0) std::_Exit(128 + signal);  // no checkpoint: whoever asks twice wants out
  received = signal;
  // mpirun sends SIGTERM to the ranks that outlive a dead one: they must not wait for it.
  if (signal == SIGTERM) shorten_waits(kGraceSeconds);
  // While mpirun waits for its ranks to end it does not read what they print: a full pipe must not
  // keep them from the checkpoint, so from here on output that finds no room is lost.
  if (under_mpirun && signal != SIGUSR1) {
    for (const int file : {STDOUT_FILENO, STDERR_FILENO})
      fcntl(file, F_SETFL, O_WRONLY | O_NONBLOCK);
  }
}

}  // namespace

void install_stop_signals() {
  under_mpirun = std::getenv("OMPI_COMM_WORLD_RANK") != nullptr;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaction(signal, &action, nullptr);
  // A launcher that is stopping closes the ranks' terminal and pipes; the checkpoint comes first.
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (const int signal : {SIGHUP, SIGPIPE}) sigaction(signal, &ignore, nullptr);
}

int stop_signal() { return received; }

}  // namespace witan
