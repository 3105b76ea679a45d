#include "launch/checkpoint/hf_config_reader.h"

#include <limits>

#include "core/base/error.h"

namespace witan {

void HfConfigReader::refuse(const std::string& key, const std::string& right) {
  problems_ += "\n  " + key + ": found " + config_[key].dump() + "; " + right;
}

std::int64_t HfConfigReader::size(const std::string& key) {
  if (!has(key)) {
    missing(key);
    return 0;
  }
  return size(key, 0);
}

std::int64_t HfConfigReader::size(const std::string& key, std::int64_t absent) {
  if (!has(key)) return absent;
  const nlohmann::json& value = config_[key];
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > 0 &&
      value.get<std::uint64_t>() <=
          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return value.get<std::int64_t>();
  }
  refuse(key, "expected a whole number from 1");
  return absent;
}

double HfConfigReader::number(const std::string& key, double absent) {
  if (!has(key)) return absent;
  if (config_[key].is_number()) return config_[key].get<double>();
  refuse(key, "expected a number");
  return absent;
}

bool HfConfigReader::flag(const std::string& key, bool absent) {
  if (!has(key)) return absent;
  if (config_[key].is_boolean()) return config_[key].get<bool>();
  refuse(key, "expected true or false");
  return absent;
}

void HfConfigReader::expect_absent(const std::string& key) {
  if (has(key)) refuse(key, "not supported; expected null");
}

void HfConfigReader::expect_false(const std::string& key) {
  if (has(key) && config_[key] != false) refuse(key, "not supported; expected false");
}

void HfConfigReader::expect_zero(const std::string& key) {
  if (number(key, 0.0) != 0.0) refuse(key, "not supported; expected 0");
}

void HfConfigReader::expect(const std::string& key, const nlohmann::json& value) {
  if (has(key) && config_[key] != value) refuse(key, "expected " + value.dump());
}

void HfConfigReader::throw_problems() const {
  if (!problems_.empty()) {
    throw_user_error(path_, ": this model cannot be taken over:", problems_);
  }
}

}  // namespace witan
