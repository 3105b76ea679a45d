#include "core/model/param_placement.h"

namespace witan {
namespace {

constexpr std::int64_t kAlign = 16;  // elements: no tensor begins inside another's vector

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

bool read_in_bfloat16(const ParamTable& table, const ParamInfo& info) {
  if (!info.decay || info.role == ParamRole::kRouter) return false;
  const bool tied_head = table.find("head") < 0;
  return info.name != "embedding" || tied_head;
}

ParamPlacement::ParamPlacement(const ParamTable& table, const ParamStore::Layout& layout) {
  for (int id = 0; id < table.size(); ++id) {
    const ParamInfo& info = table[id];
    if (!info.trained()) {
      state_elements += info.shape.size();
      continue;
    }
    const int group = info.role == ParamRole::kExpert ? 1 : 0;
    const std::int64_t size =
        group == 1 ? info.shape.size() / info.shape[0] * layout.local_experts : info.shape.size();
    spans[group].push_back({id, elements[group], size});
    elements[group] = round_up(elements[group] + size, kAlign);
    if (read_in_bfloat16(table, info)) rounded_elements += round_up(size, kAlign);
  }
  elements[0] = round_up(elements[0], kAlign * layout.dense_ranks);
  elements[1] = round_up(elements[1], kAlign * layout.expert_ranks);
}

}  // namespace witan
