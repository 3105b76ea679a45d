#include "configs/load_machine.h"

#include "configs/findings.h"
#include "configs/read_config_file.h"
#include "configs/text_parser.h"
#include "configs/validate.h"

namespace witan::configs {
namespace {

void check_links(const MachineConfig& machine, Findings& findings) {
  if (machine.ranks() > 1 && machine.ranks_per_node() > 1 && !machine.has_intra_node()) {
    findings.fail("intra_node", "is missing; ranks of a node exchange rows through it");
  }
  if (machine.ranks() > machine.ranks_per_node() && !machine.has_inter_node()) {
    findings.fail("inter_node", "is missing; with " + std::to_string(machine.ranks()) + " ranks, " +
                                    std::to_string(machine.ranks_per_node()) +
                                    " a node, there are several nodes");
  }
}

}  // namespace

LoadedMachine load_machine(const std::string& text, const std::string& file, std::int64_t ranks) {
  LoadedMachine loaded;
  Findings findings(file);
  if (parse_text(text, Origin::Kind::kFile, "", loaded.machine, findings)) {
    if (ranks > 0) loaded.machine.set_ranks(ranks);
    validate(loaded.machine, "", findings);
    if (findings.values_are_sound()) check_links(loaded.machine, findings);
  }
  loaded.errors = findings.sorted_errors();
  return loaded;
}

LoadedMachine load_machine_file(const std::string& path, std::int64_t ranks) {
  LoadedMachine loaded;
  const std::optional<std::string> text = read_config_file(path, loaded.errors);
  return text ? load_machine(*text, path, ranks) : loaded;
}

}  // namespace witan::configs
