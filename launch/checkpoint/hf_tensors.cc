#include "launch/checkpoint/hf_tensors.h"

#include "core/base/error.h"

namespace witan {
namespace {

std::string with_expert(std::string name, std::int64_t expert) {
  static const std::string kPlaceholder = "{expert}";
  const std::size_t at = name.find(kPlaceholder);
  WITAN_CHECK(at != std::string::npos, name, ": the name of an expert tensor holds no {expert}");
  return name.replace(at, kPlaceholder.size(), std::to_string(expert));
}

// Elements per row of a tensor, or of one expert's slice.
std::int64_t row_size(const ParamInfo& info) {
  const int first = info.role == ParamRole::kExpert ? 2 : 1;
  std::int64_t size = 1;
  for (int axis = first; axis < info.shape.rank(); ++axis) size *= info.shape[axis];
  return size;
}

HfTensor tensor_of(const ParamInfo& info, int id, const HfPart& part, std::int64_t expert) {
  HfTensor tensor;
  tensor.name = expert < 0 ? part.name : with_expert(part.name, expert);
  tensor.id = id;
  tensor.expert = expert;
  tensor.shape = {part.rows};
  for (int axis = expert < 0 ? 1 : 2; axis < info.shape.rank(); ++axis) {
    tensor.shape.push_back(info.shape[axis]);
  }
  tensor.begin = part.row_begin * row_size(info);
  tensor.elements = part.rows * row_size(info);
  return tensor;
}

}  // namespace

std::vector<HfTensor> hf_tensors_of(const ParamTable& table, int id, std::int64_t first_expert,
                                    std::int64_t experts) {
  const ParamInfo& info = table[id];
  std::vector<HfTensor> tensors;
  if (info.role != ParamRole::kExpert) {
    for (const HfPart& part : info.hf) tensors.push_back(tensor_of(info, id, part, -1));
    return tensors;
  }
  for (std::int64_t expert = first_expert; expert < first_expert + experts; ++expert) {
    for (const HfPart& part : info.hf) tensors.push_back(tensor_of(info, id, part, expert));
  }
  return tensors;
}

namespace {

std::vector<HfTensor> all_tensors_of(const ParamTable& table, bool state) {
  std::vector<HfTensor> all;
  for (int id = 0; id < table.size(); ++id) {
    if (!table[id].trained() && !state) continue;
    const std::int64_t experts = table[id].role == ParamRole::kExpert ? table[id].shape[0] : 0;
    const std::vector<HfTensor> tensors = hf_tensors_of(table, id, 0, experts);
    all.insert(all.end(), tensors.begin(), tensors.end());
  }
  return all;
}

}  // namespace

std::vector<HfTensor> hf_tensors_of(const ParamTable& table) {
  return all_tensors_of(table, false);
}
std::vector<HfTensor> hf_weights_of(const ParamTable& table) { return all_tensors_of(table, true); }

std::vector<MtpCopy> mtp_copies(std::int64_t layer) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  return {{prefix + "embed_tokens.weight", false}, {prefix + "shared_head.head.weight", true}};
}

std::int64_t local_offset(const ParamTable& table, const HfTensor& tensor,
                          std::int64_t first_expert) {
  if (tensor.expert < 0) return tensor.begin;
  const Shape& shape = table[tensor.id].shape;
  return (tensor.expert - first_expert) * (shape.size() / shape[0]) + tensor.begin;
}

}  // namespace witan
