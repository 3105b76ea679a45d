# cmake --install and find_package(witan).
