// Prints docs/config_reference.md.
#include <cstdio>

#include "configs/load.h"

int main() {
  std::fputs(witan::configs::config_reference().c_str(), stdout);
  return std::ferror(stdout);
}
