// Uses every layer of an installed Witan: a config, the table of tensors of its model, a one-rank
// communicator.
#include <cstdio>

#include "configs/load.h"
#include "core/model/param_table.h"
#include "launch/version.h"
#include "parallel/communicator.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const witan::configs::LoadedConfig config = witan::configs::load_file(argv[1], {});
  if (!config.errors.empty()) return 2;
  const witan::ParamTable table(config.run.model());
  const auto world = witan::make_self_communicator();
  std::printf("%s\n%s: %lld parameters on %d rank\n", witan::version_text().c_str(),
              config.run.name().c_str(), static_cast<long long>(table.total_parameters()),
              world->size());
  return table.total_parameters() > 0 ? 0 : 1;
}
