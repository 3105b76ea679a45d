#include "configs/granularity.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cstdint>
#include <optional>

#include "configs/field_value.h"
#include "configs/schema/options.pb.h"
#include "configs/validate.h"

namespace witan::configs {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

const char* const kPath = "model.moe.granularity";

// One run's factor, and what became of which field.
class Granularity {
 public:
  Granularity(std::int64_t factor, Findings& findings) : factor_(factor), findings_(findings) {}

  void multiply(Message& message, const char* name, const std::string& path) {
    const FieldDescriptor& field = *message.GetDescriptor()->FindFieldByName(name);
    const std::int64_t old = message.GetReflection()->GetInt64(message, &field);
    const std::string derived = std::to_string(old) + " times granularity " + factor_text();
    const std::optional<Range> range_of_field =
        parse_range(field.options().GetExtension(witan::configs::range));
    const std::int64_t value = old * factor_;
    if (!range_of_field->contains(static_cast<double>(value))) {
      findings_.fail(kPath, "found " + factor_text() + "; " + path + " = " + derived +
                                " is out of range: expected " + expectation(field) + " in " +
                                field.options().GetExtension(witan::configs::range));
      return;
    }
    message.GetReflection()->SetInt64(&message, &field, value);
    derived_[path] = derived;
  }

  void divide_width(MoeConfig& moe) {
    if (moe.d_ff() % factor_ != 0) {
      findings_.fail(kPath, "found " + factor_text() +
                                "; it must divide model.moe.d_ff = " + std::to_string(moe.d_ff()));
      return;
    }
    derived_["model.moe.d_ff"] =
        std::to_string(moe.d_ff()) + " divided by granularity " + factor_text();
    moe.set_d_ff(moe.d_ff() / factor_);
  }

  std::map<std::string, std::string> derived() { return std::move(derived_); }

 private:
  std::string factor_text() const { return std::to_string(factor_); }

  std::int64_t factor_;
  Findings& findings_;
  std::map<std::string, std::string> derived_;
};

// The selection that is chosen, and its number of experts per token; every selection but `all`,
// which takes each of them anyway, has one.
void multiply_choices(RouterConfig& router, Granularity& granularity) {
  const google::protobuf::Reflection& reflection = *router.GetReflection();
  const FieldDescriptor* chosen = reflection.GetOneofFieldDescriptor(
      router, router.GetDescriptor()->FindOneofByName("selection"));
  Message& selection = *reflection.MutableMessage(&router, chosen);
  for (const char* name : {"k", "k_max"}) {
    if (selection.GetDescriptor()->FindFieldByName(name) == nullptr) continue;
    granularity.multiply(selection, name, "model.moe.router." + chosen->name() + "." + name);
  }
}

}  // namespace

std::map<std::string, std::string> apply_granularity(RunConfig& run, Findings& findings) {
  if (!run.model().moe().has_granularity()) return {};
  MoeConfig& moe = *run.mutable_model()->mutable_moe();
  Granularity granularity(moe.granularity(), findings);
  moe.clear_granularity();
  granularity.multiply(moe, "experts", "model.moe.experts");
  multiply_choices(*moe.mutable_router(), granularity);
  granularity.divide_width(moe);
  return granularity.derived();
}

}  // namespace witan::configs
