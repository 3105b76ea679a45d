#include "configs/override.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "configs/field_value.h"
#include "configs/text_parser.h"

namespace witan::configs {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr Origin kSet{Origin::Kind::kOverride, 0, 0};

struct Step {
  std::string name;
  int index = -1;
};

bool is_name(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_';
  });
}

// "model.moe.balance[0].z_loss" in steps; false if it has another form.
bool parse_path(const std::string& path, std::vector<Step>& steps) {
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    Step step{path.substr(begin, end - begin), -1};
    const std::size_t bracket = step.name.find('[');
    if (bracket != std::string::npos) {
      const std::string digits =
          step.name.substr(bracket + 1, step.name.size() - std::min(bracket + 2, step.name.size()));
      if (step.name.back() != ']' || digits.empty() || digits.size() > 6 ||
          digits.find_first_not_of("0123456789") != std::string::npos) {
        return false;
      }
      step.index = std::stoi(digits);
      step.name.resize(bracket);
    }
    if (!is_name(step.name)) return false;
    steps.push_back(step);
    if (end == path.size()) return true;
    begin = end + 1;
  }
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c == '\n') {
      result += "\\n";
    } else {
      result += c;
    }
  }
  return result + '"';
}

class Override {
 public:
  Override(RunConfig& run, Findings& findings) : message_(&run), findings_(findings) {}

  void apply(const std::vector<Step>& steps, const std::string& value) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const FieldDescriptor* field = find(steps[i]);
      if (field == nullptr) return;
      release_choice(*field);
      const bool last = i + 1 == steps.size();
      if (!last) {
        if (!enter(*field, steps[i])) return;
      } else if (field->is_repeated() && steps[i].index < 0) {
        parse_list(value, kSet.kind, child_path(path_, steps[i].name), *field, *message_,
                   findings_);
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        if (!enter(*field, steps[i])) return;
        findings_.forget(path_);
        findings_.wrote(path_, kSet);
        message_->Clear();
        parse_text(value, kSet.kind, path_, *message_, findings_);
      } else {
        assign(*field, steps[i], value);
      }
    }
  }

 private:
  const FieldDescriptor* find(const Step& step) {
    const std::string path = child_path(path_, step.name);
    const FieldDescriptor* field = message_->GetDescriptor()->FindFieldByName(step.name);
    if (field == nullptr) {
      findings_.fail_unknown(path, unknown_field(*message_->GetDescriptor(), step.name), kSet);
      return nullptr;
    }
    if (step.index < 0) return field;
    if (!field->is_repeated()) {
      findings_.fail(path, "is not a list: leave out the index", kSet);
      return nullptr;
    }
    const int size = message_->GetReflection()->FieldSize(*message_, field);
    if (step.index <= size) return field;
    findings_.fail(child_path(path_, step.name, step.index),
                   "the list has " + std::to_string(size) + " entries; [" + std::to_string(size) +
                       "] appends one",
                   kSet);
    return nullptr;
  }

  // Setting one member of a oneof drops the other.
  void release_choice(const FieldDescriptor& field) {
    const auto* choice = field.real_containing_oneof();
    if (choice == nullptr) return;
    const FieldDescriptor* other =
        message_->GetReflection()->GetOneofFieldDescriptor(*message_, choice);
    if (other != nullptr && other != &field) findings_.forget(child_path(path_, other->name()));
  }

  // Descends into a message, which is made if it is not there.
  bool enter(const FieldDescriptor& field, const Step& step) {
    const std::string path = child_path(path_, step.name, step.index);
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      findings_.fail(path, "is " + expectation(field) + "; it has no fields", kSet);
      return false;
    }
    const Reflection* reflection = message_->GetReflection();
    if (field.is_repeated()) {
      if (step.index < 0) {
        findings_.fail(path, "is a list: say which entry, as in " + path + "[0]", kSet);
        return false;
      }
      const bool append = step.index == reflection->FieldSize(*message_, &field);
      message_ = append ? reflection->AddMessage(message_, &field)
                        : reflection->MutableRepeatedMessage(message_, &field, step.index);
      if (append) findings_.wrote(path, kSet);
    } else {
      if (!reflection->HasField(*message_, &field)) findings_.wrote(path, kSet);
      message_ = reflection->MutableMessage(message_, &field);
    }
    path_ = path;
    return true;
  }

  void assign(const FieldDescriptor& field, const Step& step, const std::string& value) {
    const std::string path = child_path(path_, step.name, step.index);
    findings_.wrote(path, kSet);
    const bool is_string = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    const bool has_quotes = !value.empty() && (value.front() == '"' || value.front() == '\'');
    const std::string why =
        set_scalar(field, is_string && !has_quotes ? quoted(value) : value, *message_);
    if (!why.empty()) {
      findings_.fail(path, why, kSet);
      return;
    }
    if (!field.is_repeated()) return;
    // set_scalar appended it.
    const Reflection* reflection = message_->GetReflection();
    const int last = reflection->FieldSize(*message_, &field) - 1;
    if (step.index == last) return;
    reflection->SwapElements(message_, &field, step.index, last);
    reflection->RemoveLast(message_, &field);
  }

  Message* message_;
  std::string path_;
  Findings& findings_;
};

}  // namespace

void apply_override(const std::string& assignment, RunConfig& run, Findings& findings) {
  const std::size_t equals = assignment.find('=');
  std::vector<Step> steps;
  if (equals == std::string::npos || !parse_path(assignment.substr(0, equals), steps)) {
    findings.fail("",
                  "expected PATH=VALUE with a dotted path, such as train.steps=100 or "
                  "model.moe.balance[0].z_loss.coefficient=1e-3, found " +
                      assignment,
                  kSet);
    return;
  }
  Override(run, findings).apply(steps, assignment.substr(equals + 1));
}

}  // namespace witan::configs
